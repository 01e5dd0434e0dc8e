"""Invoices: issued once for each account and month, in an order without gaps, and shown as HTML or PDF."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from importlib import import_module
from typing import Any

from django.db import connection, transaction
from django.template.loader import render_to_string

from automation.contrib.credits import conf
from automation.contrib.credits.amounts import THOUSAND, written
from automation.contrib.credits.errors import BookingRefused, NoPdf
from automation.contrib.credits.models import Billing, Invoice, Line, Transfer, Usage
from automation.contrib.credits.models.tables import INVOICE, INVOICE_NUMBER, LINE, TRANSFER, USAGE
from automation.contrib.credits.reports import CURRENCY_PARTS, summed
from automation.models import Account, Site
from pause_manager.actor import Actor
from pause_manager.observability import audit

BATCH = 100


def issue_month(month: date, *, actor: Actor) -> Iterator[Invoice]:
    """Issue what is missing of ``month``, any day of it, until nothing is; each invoice is a transaction of its own.

    It may be repeated, also by two at once. Raises ``BookingRefused`` if the month has not ended for an hour.
    """
    month = month.replace(day=1)
    with connection.cursor() as cursor:
        cursor.execute(_HAS_ENDED, {"month": month})
        if not cursor.fetchone()[0]:
            raise BookingRefused(f"Cannot issue invoices for {month:%Y-%m}: it must have ended an hour ago (UTC).")
    while accounts := _missing(month):
        for pk in accounts:
            issued = issue(pk, month, actor=actor)
            if issued is not None:
                yield issued


def _missing(month: date) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, {"month": month, "most": BATCH})
        return [pk for (pk,) in cursor.fetchall()]


def issue(account_id: int, month: date, *, actor: Actor) -> Invoice | None:
    """Issue the invoice of an account for ``month``; ``None`` if there is one."""
    settings = conf.settings()
    with transaction.atomic():
        # The row of the number is locked first: two that issue at once take turns, and the second sees the invoice.
        with connection.cursor() as cursor:
            cursor.execute(_NEXT_NUMBER)
            year, number = cursor.fetchone()
        if Invoice.objects.filter(account_id=account_id, month=month).exists():
            transaction.set_rollback(True)
            return None
        lines = [*_used(account_id, month), *_corrected(account_id, month)]
        total = sum(line["credits"] for line in lines)
        account = Account.objects.filter(pk=account_id).first()
        made = Invoice.objects.create(
            number=f"{year}-{number:05d}",
            account_id=account_id,
            name=account.name if account is not None else f"account {account_id}",
            address=Billing.objects.filter(pk=account_id).values_list("address", flat=True).first() or "",
            month=month,
            lines=lines,
            credits=total,
            amount=total * settings.credit_price // THOUSAND,
            currency=settings.currency,
        )
        audit.record(
            "invoice_issued",
            scope=f"account:{account_id}",
            actor=actor,
            reason=f"{made.number} for {month:%Y-%m}",
            details={"invoice": made.number, "credits": written(total), "account": account_id},
        )
    return made


def _used(account_id: int, month: date) -> list[dict[str, Any]]:
    rows = list(summed(Usage.objects.filter(account_id=account_id, month=month), "site_id", "stage"))
    names = dict(Site.objects.filter(pk__in={row["site_id"] for row in rows}).values_list("pk", "slug"))
    return [
        {
            "site": names.get(row["site_id"], f"site {row['site_id']}"),
            "stage": row["stage"],
            "items": row["items"],
            "credits": row["charged"],
        }
        for row in rows
        if row["charged"]
    ]


def _corrected(account_id: int, month: date) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(_CORRECTIONS, {"account": account_id, "month": month})
        (total,) = cursor.fetchone()
    return [{"site": "", "stage": "corrections", "items": None, "credits": total}] if total else []


def as_html(invoice: Invoice) -> str:
    """The invoice as a page."""
    lines = [{**line, "credits": written(line["credits"])} for line in invoice.lines]
    facts = {"invoice": invoice, "lines": lines, "credits": written(invoice.credits), "amount": money(invoice.amount)}
    return render_to_string("credits/invoice.html", facts)


def as_pdf(invoice: Invoice) -> bytes:
    """The invoice as PDF. Raises ``NoPdf`` without WeasyPrint."""
    try:
        weasyprint = import_module("weasyprint")
    except (ImportError, OSError) as error:
        raise NoPdf from error
    made: bytes = weasyprint.HTML(string=as_html(invoice)).write_pdf()
    return made


def money(millionths: int) -> str:
    """An amount of the currency, with two to six decimals."""
    whole, rest = divmod(abs(millionths), CURRENCY_PARTS)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if millionths < 0 else ''}{whole:,}.{digits}"


_HAS_ENDED = """
    SELECT (statement_timestamp() - interval '1 hour') AT TIME ZONE 'UTC' >= %(month)s::date + interval '1 month'
"""
_NEXT_NUMBER = f"""
    INSERT INTO {INVOICE_NUMBER} AS kept (year, last)
    VALUES (extract(year FROM statement_timestamp() AT TIME ZONE 'UTC'), 1)
        ON CONFLICT (year) DO UPDATE SET last = kept.last + 1
 RETURNING year, last
"""
_OF_MONTH = """
    created_at >= %(month)s::date::timestamp AT TIME ZONE 'UTC'
    AND created_at < (%(month)s::date + interval '1 month') AT TIME ZONE 'UTC'
"""
_MISSING = f"""
    SELECT account_id FROM (
        SELECT account_id FROM {USAGE} WHERE month = %(month)s AND charged <> 0
         UNION
        SELECT account_id FROM {TRANSFER} WHERE kind = '{Transfer.Kind.CORRECTION.value}' AND {_OF_MONTH}
           AND EXISTS (SELECT 1 FROM {LINE} AS line
                        WHERE line.transfer_id = {TRANSFER}.id AND line.book = '{Line.Book.REVENUE.value}')
    ) AS billed
     WHERE NOT EXISTS (SELECT 1 FROM {INVOICE} AS invoice
                        WHERE invoice.account_id = billed.account_id AND invoice.month = %(month)s)
     ORDER BY account_id LIMIT %(most)s
"""
_CORRECTIONS = f"""
    SELECT coalesce(sum(line.amount), 0)::bigint FROM {TRANSFER} AS transfer
      JOIN {LINE} AS line ON line.transfer_id = transfer.id AND line.book = '{Line.Book.REVENUE.value}'
     WHERE transfer.account_id = %(account)s AND transfer.kind = '{Transfer.Kind.CORRECTION.value}' AND {_OF_MONTH}
"""
