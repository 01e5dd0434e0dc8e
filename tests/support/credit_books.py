"""Prices and funds for tests, and what the ledger must come to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from automation.contrib.credits import funds, ledger
from automation.contrib.credits.models import Billing, Line, Price, SiteBudget, Transfer
from automation.models import Account, AutomationRun, Site
from tests.support.factories import OPERATOR, make_site

CREDIT = 1_000
"""Thousandths."""


def price_of(pipeline: str, stage: str, charge: int = CREDIT, **options: Any) -> Price:
    """A price that has been in force for a day."""
    options.setdefault("valid_from", timezone.now() - timedelta(days=1))
    return Price.objects.create(pipeline=pipeline, stage=stage, charge=charge, **options)


def funded_site(credits: int, slug: str = "", **billing: Any) -> Site:
    """A site whose account has so many credits."""
    site = make_site(slug)
    Billing.objects.get_or_create(account=site.account)
    if billing:
        Billing.objects.filter(pk=site.account_id).update(**billing)
    if credits:
        top_up(site.account, credits)
    return site


def top_up(account: Account, credits: int, key: str = "first") -> Transfer:
    return ledger.top_up(account, credits * CREDIT, key=key, actor=OPERATOR, reason="paid")


def budget_of(site: Site, **options: Any) -> SiteBudget:
    return SiteBudget.objects.create(site=site, **options)


def balance(site: Site) -> int:
    """Thousandths of a credit."""
    return funds.of_account(site.account_id).balance


def in_book(book: str, **which: Any) -> int:
    return Line.objects.filter(book=book, **which).aggregate(sum=Sum("amount"))["sum"] or 0


def charged(run: AutomationRun) -> int:
    """What the ledger says that the run has used."""
    return -in_book(Line.Book.AVAILABLE, kind=Transfer.Kind.CHARGE, transfer__run_id=run.pk)


def move_bookings(at: str, **which: Any) -> None:
    """Let the transfers have been written at that time, though nobody else may change them."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('credits.erasing_in', pg_current_xact_id()::text, true)")
        Transfer.objects.filter(**which).update(created_at=datetime.fromisoformat(at))
        cursor.execute("SELECT set_config('credits.erasing_in', '', true)")


def assert_sound(site: Site) -> None:
    """Every transfer adds up to zero, and the funds are what the lines of the account say."""
    off = Transfer.objects.annotate(sum=Sum("lines__amount")).exclude(sum=0).exclude(sum=None)
    assert list(off) == []
    held = in_book(Line.Book.AVAILABLE, account_id=site.account_id)
    held += in_book(Line.Book.RESERVED, account_id=site.account_id)
    assert balance(site) == held
