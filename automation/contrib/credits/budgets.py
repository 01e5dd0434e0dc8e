"""The limits of a site: how much of a month each function may use, and how much one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from automation.contrib.credits import conf
from automation.contrib.credits.models import Billing, SiteBudget


@dataclass(frozen=True)
class Budget:
    """Of a site, in thousandths of a credit; ``None``: no limit."""

    monthly: int | None
    shares: Mapping[str, int]
    is_split: bool
    max_per_run: int | None


def of_site(site_id: int, account_id: int) -> Budget:
    """The site's budget, or what its account and the settings say. Two queries."""
    settings = conf.settings()
    kept = SiteBudget.objects.filter(pk=site_id).first()
    most = Billing.objects.filter(pk=account_id).values_list("max_credits_per_run", flat=True).first()
    if kept is None:
        return Budget(None, settings.shares, True, most)
    per_run = kept.max_credits_per_run if kept.max_credits_per_run is not None else most
    return Budget(kept.monthly, kept.shares if kept.shares is not None else settings.shares, kept.is_split, per_run)
