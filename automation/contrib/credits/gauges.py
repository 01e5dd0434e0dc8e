"""The gauge of credits: accounts that are low."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric

from automation.contrib.credits.models import Billing
from pause_manager.observability.exposition import gauge, register


@register("credits")
def _credits() -> Iterable[Metric]:
    low = gauge("slackwater_accounts_low_on_credits", "Accounts whose credits are below their warning mark.")
    low.add_metric([], Billing.objects.filter(low_since__isnull=False).count())
    return (low,)
