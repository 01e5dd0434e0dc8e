"""Invoices: issued once for each account and month of its time zone, from the ledger, in an order without gaps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from automation.contrib.credits import conf
from automation.contrib.credits.amounts import THOUSAND, written
from automation.contrib.credits.errors import BookingRefused
from automation.contrib.credits.models import Billing, Invoice, Line, Transfer
from automation.contrib.credits.models.tables import BILLING, INVOICE, INVOICE_NUMBER, LINE, RUN_CREDITS, TRANSFER
from automation.models import Account, Site
from pause_manager.actor import Actor
from pause_manager.observability import audit

BATCH = 100
MONTHS_BACK = 12
"""How old a month may be that is issued without being asked for."""


def issue_due(*, actor: Actor, seconds: float | None = None) -> Iterator[Invoice]:
    """Issue what is missing of the last ``MONTHS_BACK`` months, the oldest first; it begins none after ``seconds``.

    What was not reached is issued by the next call.
    """
    until = None if seconds is None else time.monotonic() + seconds
    for month in _months_back():
        for issued in _issue_missing(month, actor=actor):
            yield issued
            if until is not None and time.monotonic() > until:
                return


def issue_month(month: date, *, actor: Actor) -> Iterator[Invoice]:
    """Issue what is missing of ``month``, any day of it, until nothing is; each invoice is a transaction of its own.

    It may be repeated, also by two at once. An account whose month has not ended for an hour is left out. Raises
    ``BookingRefused`` if that is so for all.
    """
    month = month.replace(day=1)
    with connection.cursor() as cursor:
        cursor.execute(_HAS_ENDED, {"month": month})
        if not cursor.fetchone()[0]:
            raise BookingRefused(f"Cannot issue invoices for {month:%Y-%m}: it must have ended an hour ago.")
    yield from _issue_missing(month, actor=actor)


def _issue_missing(month: date, *, actor: Actor) -> Iterator[Invoice]:
    last = 0
    while accounts := _missing(month, last):
        for pk in accounts:
            issued = issue(pk, month, actor=actor)
            if issued is not None:
                yield issued
        last = accounts[-1]


def _missing(month: date, after: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, {"month": month, "after": after, "most": BATCH})
        return [pk for (pk,) in cursor.fetchall()]


def _months_back() -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute(_MONTHS, {"back": MONTHS_BACK})
        return [month for (month,) in cursor.fetchall()]


@dataclass(frozen=True)
class Period:
    """What an invoice covers: a month of the account's time zone, without what another invoice covers."""

    starts_at: datetime
    ends_at: datetime
    time_zone: str
    has_ended: bool
    """An hour ago."""


def period_of(account_id: int, month: date) -> Period | None:
    """The period of the account's invoice for ``month``; ``None`` if it has that invoice, or no billing settings."""
    with connection.cursor() as cursor:
        cursor.execute(f"{_PERIODS} WHERE billing.account_id = %(account)s", {"account": account_id, "month": month})
        row = cursor.fetchone()
    return None if row is None else Period(*row[1:])


def issue(account_id: int, month: date, *, actor: Actor) -> Invoice | None:
    """Issue the invoice of an account for ``month``; ``None`` if there is one, or the month has not ended."""
    period = period_of(account_id, month)
    if period is None or not period.has_ended:
        return None
    # What is in the period does not change any more, so it is added up before others wait for the number.
    lines = [*_used(account_id, period), *_corrected(account_id, period)]
    with transaction.atomic():
        # The row of the number is locked first: two that issue at once take turns, and the second sees the invoice.
        with connection.cursor() as cursor:
            cursor.execute(_NEXT_NUMBER)
            year, number = cursor.fetchone()
        if period_of(account_id, month) != period:
            transaction.set_rollback(True)
            return None
        made = _written(account_id, month, period, lines, f"{year}-{number:05d}")
        audit.record(
            "invoice_issued",
            scope=f"account:{account_id}",
            actor=actor,
            reason=f"{made.number} for {month:%Y-%m}",
            details={"invoice": made.number, "credits": written(made.credits), "account": account_id},
        )
    return made


def _written(account_id: int, month: date, period: Period, lines: list[dict[str, Any]], number: str) -> Invoice:
    settings = conf.settings()
    total = sum(line["credits"] for line in lines)
    account = Account.objects.filter(pk=account_id).first()
    return Invoice.objects.create(
        number=number,
        account_id=account_id,
        name=account.name if account is not None else f"account {account_id}",
        address=Billing.objects.filter(pk=account_id).values_list("address", flat=True).first() or "",
        month=month,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        time_zone=period.time_zone,
        lines=lines,
        credits=total,
        credit_price=settings.credit_price,
        amount=total * settings.credit_price // THOUSAND,
        currency=settings.currency,
    )


def _used(account_id: int, period: Period) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(_CHARGES, {"account": account_id, "starts": period.starts_at, "ends": period.ends_at})
        rows = cursor.fetchall()
    names = dict(Site.objects.filter(pk__in={row[0] for row in rows if row[0]}).values_list("pk", "slug"))
    return [
        {"site": names.get(site, f"site {site}"), "stage": stage, "items": items, "credits": int(charged)}
        for site, stage, items, charged in rows
        if charged
    ]


def _corrected(account_id: int, period: Period) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(_CORRECTIONS, {"account": account_id, "starts": period.starts_at, "ends": period.ends_at})
        (total,) = cursor.fetchone()
    return [{"site": "", "stage": "corrections", "items": None, "credits": total}] if total else []


_AN_HOUR_AGO = "(statement_timestamp() - interval '1 hour')"
_HAS_ENDED = f"""
    SELECT coalesce(bool_or({_AN_HOUR_AGO} AT TIME ZONE zone.name >= %(month)s::date + interval '1 month'),
                    {_AN_HOUR_AGO} AT TIME ZONE 'UTC' >= %(month)s::date + interval '1 month')
      FROM (SELECT DISTINCT time_zone AS name FROM {BILLING}) AS zone
"""
_MONTHS = """
    SELECT (date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC') - make_interval(months => back))::date
      FROM generate_series(%(back)s, 0, -1) AS back
"""
_NEXT_NUMBER = f"""
    INSERT INTO {INVOICE_NUMBER} AS kept (year, last)
    VALUES (extract(year FROM statement_timestamp() AT TIME ZONE 'UTC'), 1)
        ON CONFLICT (year) DO UPDATE SET last = kept.last + 1
 RETURNING year, last
"""
# Where the time zone was changed between two invoices, the later one begins where the one before it ends: nothing is
# billed twice, and nothing is left out.
_PERIODS = f"""
    SELECT billing.account_id, period.starts_at, period.ends_at, billing.time_zone,
           period.ends_at <= {_AN_HOUR_AGO} AS has_ended
      FROM {BILLING} AS billing
      JOIN LATERAL (
           SELECT coalesce(
                      (SELECT ends_at FROM {INVOICE} AS before WHERE before.account_id = billing.account_id
                          AND before.month = (%(month)s::date - interval '1 month')::date),
                      greatest(%(month)s::date::timestamp AT TIME ZONE billing.time_zone,
                               (SELECT max(ends_at) FROM {INVOICE} AS before
                                 WHERE before.account_id = billing.account_id AND before.month < %(month)s::date))
                  ) AS starts_at,
                  least((%(month)s::date + interval '1 month') AT TIME ZONE billing.time_zone,
                        (SELECT min(starts_at) FROM {INVOICE} AS later
                          WHERE later.account_id = billing.account_id AND later.month > %(month)s::date)) AS ends_at
           ) AS period ON NOT EXISTS (SELECT 1 FROM {INVOICE} AS invoice
                                       WHERE invoice.account_id = billing.account_id AND invoice.month = %(month)s)
"""
_REVENUE = f"""
    JOIN {LINE} AS line ON line.transfer_id = transfer.id AND line.book = '{Line.Book.REVENUE.value}'
"""
# The first booking of the period is looked for account by account: as one join it would walk the ledger.
_MISSING = f"""
    SELECT due.account_id FROM ({_PERIODS} WHERE billing.account_id > %(after)s) AS due
     CROSS JOIN LATERAL (
           SELECT transfer.id FROM {TRANSFER} AS transfer
            WHERE transfer.account_id = due.account_id
              AND transfer.created_at >= due.starts_at AND transfer.created_at < due.ends_at
              AND (SELECT line.amount FROM {LINE} AS line
                    WHERE line.transfer_id = transfer.id AND line.book = '{Line.Book.REVENUE.value}' LIMIT 1) <> 0
            LIMIT 1) AS first
     WHERE due.has_ended ORDER BY due.account_id LIMIT %(most)s
"""
_OF_PERIOD = """
    transfer.account_id = %(account)s AND transfer.created_at >= %(starts)s AND transfer.created_at < %(ends)s
"""
_CHARGES = f"""
    SELECT run.site_id, transfer.stage, sum(units.number)::bigint, sum(line.amount)::bigint
      FROM {TRANSFER} AS transfer {_REVENUE}
     CROSS JOIN LATERAL (SELECT count(*) AS number FROM {LINE} AS unit
                          WHERE unit.transfer_id = transfer.id AND unit.book = '{Line.Book.AVAILABLE.value}') AS units
      LEFT JOIN {RUN_CREDITS} AS run ON run.run_id = transfer.run_id
     WHERE {_OF_PERIOD} AND transfer.kind = '{Transfer.Kind.CHARGE.value}'
     GROUP BY 1, 2 ORDER BY 1, 2
"""
_CORRECTIONS = f"""
    SELECT coalesce(sum(line.amount), 0)::bigint FROM {TRANSFER} AS transfer {_REVENUE}
     WHERE {_OF_PERIOD} AND transfer.kind = '{Transfer.Kind.CORRECTION.value}'
"""
