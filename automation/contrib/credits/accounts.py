"""The rules of accounts and sites, as people change them; each change is an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from automation.contrib.credits import funds, ledger
from automation.contrib.credits.conf import wrong_shares
from automation.contrib.credits.errors import BookingRefused
from automation.contrib.credits.models import Billing, SiteBudget
from automation.contrib.credits.models.accounts import check_time_zone
from automation.models import Account, Site
from pause_manager.actor import Actor
from pause_manager.observability import audit

RULES = (
    *("overdraft", "max_credits_per_run", "low_balance", "on_top_up"),
    *("notice_email", "time_zone", "address"),
)


def shown(account: Account) -> dict[str, Any]:
    """Credits and rules of an account; amounts in thousandths. Two queries."""
    kept = Billing.objects.filter(pk=account.pk).first() or Billing(account=account)
    has = funds.of_account(account.pk)
    return {
        "account_id": account.pk,
        "name": account.name,
        "balance": has.balance,
        "reserved": has.reserved,
        "available": has.available,
        "is_low": kept.low_since is not None,
        **{name: getattr(kept, name) for name in RULES},
    }


def change(account: Account, rules: Mapping[str, Any], *, actor: Actor) -> None:
    """Change those of ``RULES`` that are given. Raises ``BookingRefused`` for a time zone that is none."""
    if "time_zone" in rules:
        try:
            check_time_zone(rules["time_zone"])
        except ValidationError as error:
            raise BookingRefused(error.messages[0]) from None
    with transaction.atomic():
        kept = ledger.billing_of(account.pk)
        before = {name: getattr(kept, name) for name in rules}
        if before == dict(rules):
            return
        Billing.objects.filter(pk=account.pk).update(**rules)
        audit.record("changed", scope=ledger.scope_of(account.pk), actor=actor, before=before, after=dict(rules))


def change_budget(site: Site, given: Mapping[str, Any], *, actor: Actor) -> None:
    """Change the budget of a site. Raises ``BookingRefused`` for shares that are none."""
    if given.get("shares") is not None and (why := wrong_shares(given["shares"])):
        raise BookingRefused(f"Cannot use the shares: {why}.")
    with transaction.atomic():
        kept, _ = SiteBudget.objects.get_or_create(site=site)
        before = {name: getattr(kept, name) for name in given}
        if before == dict(given):
            return
        SiteBudget.objects.filter(pk=site.pk).update(**given)
        audit.record("changed", scope=f"sitebudget:{site.pk}", actor=actor, before=before, after=dict(given))
