"""Whose credits a user sees: those of the accounts that they belong to."""

from __future__ import annotations

from typing import Any

from automation.models import Account
from automation.models.accounts import accounts_of
from pause_manager.console.access import refusing

VIEW, MANAGE = "credits.view_transfer", "credits.manage_credits"


@refusing("To see this page, you need the permission to view transfers of credits.")
def may_view(user: Any) -> bool:
    """Whether ``user`` may see credits at all."""
    return bool(user.has_perm(VIEW))


def accounts(user: Any) -> Any:
    """The accounts whose credits ``user`` may see, by name; all of them for a superuser."""
    rows = Account.objects.order_by("name", "pk")
    return rows if user.is_superuser else rows.filter(pk__in=accounts_of(user))


def account(user: Any, number: str) -> Account | None:
    """The account of this number, if ``user`` may see it."""
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        return None
    found: Account | None = accounts(user).filter(pk=int(number)).first()
    return found
