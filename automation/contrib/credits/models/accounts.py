"""An account's funds and the rules for them; the budget of a site."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from automation.contrib.credits.conf import wrong_shares
from automation.models import Account, Site


@cache
def _zones() -> set[str]:
    return available_timezones()


def check_time_zone(name: str) -> None:
    """Raise ``ValidationError`` unless it is the name of a time zone."""
    if name not in _zones() or name in NOT_ZONES:
        raise ValidationError(f"Expected a time zone such as UTC or Europe/Berlin, got: {name[:64]!r}.")


NOT_ZONES = frozenset(("localtime", "Factory"))
"""Names that PostgreSQL does not know, or that mean something else on each machine."""


class Billing(models.Model):
    """What an account has and how it pays. ``funds`` is written by ``ledger`` alone, with the lines that explain it."""

    class OnTopUp(models.TextChoices):
        ASK = "ask", "ask: an operator resumes the runs that were stopped"
        RESUME = "resume", "resume the runs that were stopped, as far as the credits reach"

    account = models.OneToOneField(Account, on_delete=models.PROTECT, primary_key=True, related_name="billing")
    funds = models.BigIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text="thousandths of a credit, less what settled runs have used; unsettled ones are not counted",
    )
    overdraft = models.PositiveBigIntegerField(
        default=0, help_text="how far below zero the account may go, in thousandths of a credit"
    )
    max_credits_per_run = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="most that one run may use, in thousandths of a credit; empty: no limit"
    )
    low_balance = models.PositiveBigIntegerField(
        default=0, help_text="below this a notice is given, in thousandths of a credit; 0: none"
    )
    low_since = models.DateTimeField(null=True, blank=True, editable=False)
    on_top_up = models.CharField(max_length=10, choices=OnTopUp.choices, default=OnTopUp.ASK)
    low_mailed_at = models.DateTimeField(null=True, blank=True, editable=False)
    notice_email = models.EmailField(
        blank=True, default="", db_default="", help_text="who is written to when the credits are low; empty: nobody"
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        db_default="UTC",
        validators=[check_time_zone],
        help_text="in which the months of invoices begin, such as Europe/Berlin",
    )
    address = models.TextField(blank=True, default="", db_default="", help_text="as it stands on invoices")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "account billing settings"
        verbose_name_plural = "account billing settings"
        ordering: ClassVar = ["account"]

    def __str__(self) -> str:
        return f"billing of {self.account}"


def check_shares(shares: Any) -> None:
    """Raise ``ValidationError`` unless they are percentages of functions."""
    if why := wrong_shares(shares):
        raise ValidationError(f"Cannot use the shares: {why}.")


class SiteBudget(models.Model):
    """What a site may use in a calendar month (UTC), and how that is split per function."""

    site = models.OneToOneField(Site, on_delete=models.CASCADE, primary_key=True, related_name="budget")
    monthly = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="thousandths of a credit in a month; empty: no limit"
    )
    is_split = models.BooleanField(default=True, help_text="whether each function may use its share only")
    shares = models.JSONField(
        null=True,
        blank=True,
        validators=[check_shares],
        help_text='percent by function, such as {"content": 40}; empty: as in the settings',
    )
    max_credits_per_run = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="most that one run may use, in thousandths of a credit; empty: as the account"
    )

    class Meta:
        ordering: ClassVar = ["site"]

    def __str__(self) -> str:
        return f"budget of {self.site}"
