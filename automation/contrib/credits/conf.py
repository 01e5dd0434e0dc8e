"""The settings of credits, declared once: ``CREDITS = {...}`` in Django's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.conf import settings as django_settings

SHARES: Mapping[str, int] = {"clusters": 15, "ideas": 10, "content": 40, "prompts": 5, "images": 30}
"""Percent of a site's budget for each function of the content pipeline."""


@dataclass(frozen=True)
class CreditsSettings:
    margin: float = 1.2
    """How many times its estimate a run reserves at its start."""
    assumed_words: int = 1_000
    """Words that one pass of a stage priced by words is taken to make until some have been measured."""
    measured_runs: int = 20
    """Completed runs of a pipeline from which the number of items in its later stages is estimated."""
    currency: str = "EUR"
    """Currency of providers' costs and of invoices, in three letters."""
    credit_price: int = 10_000
    """What a credit costs on an invoice, in millionths of the currency."""
    stripe_secrets: tuple[str, ...] = ()
    """Signing secrets of the webhook endpoint at Stripe; several while one replaces another. None: no such payments."""
    dummy_secrets: tuple[str, ...] = ()
    """Signing secrets of the payment provider `dummy`, for tests: anyone who has one can add credits."""
    notice_tolerance_seconds: int = 300
    """How far the time of a webhook's signature may be from now."""
    issue_invoices: bool = True
    """Whether invoices are issued an hour after the end of each month; else by `manage.py credits invoice` alone."""
    invoice_issuer: str = ""
    """Who issues invoices, in as many lines as needed: name, address, numbers for taxes."""
    invoice_note: str = ""
    """What else invoices say, such as how taxes are handled."""
    unpaid_days: int = 90
    """Payments that were ordered and not paid are deleted after this number of days."""
    shares: Mapping[str, int] = field(default_factory=lambda: dict(SHARES))
    """Percent of a site's budget by function, where the site has no shares of its own."""


def settings() -> CreditsSettings:
    """The settings in force; the system checks have vouched for the names and types."""
    return CreditsSettings(**getattr(django_settings, "CREDITS", {}))


def wrong_shares(shares: object) -> str:
    """What is wrong with the percentages of functions; empty if nothing."""
    if not isinstance(shares, Mapping) or not all(isinstance(name, str) for name in shares):
        return f"expected an object of functions and percentages, got: {shares!r:.200}"
    for name, percent in shares.items():
        if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
            return f"{name}: expected 0 to 100 percent, got: {percent!r:.40}"
    total = sum(shares.values())
    return f"expected at most 100 percent in all, got: {total}" if total > 100 else ""
