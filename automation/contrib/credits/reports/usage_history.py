"""What was used by day, for charts and lists: of bookings in the ledger, in a time zone, a page at a time.

Of charges and of their corrections, so that a sum over all days is what the ledger says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from automation.contrib.credits.errors import HistoryRefused
from automation.contrib.credits.models import Line, Transfer
from automation.contrib.credits.models.tables import LINE, PRICE, RUN_CREDITS, TRANSFER
from automation.models import Site

MOST_DAYS = 366
MOST_SERIES = 12
"""Of a chart; what is beyond the largest is one more series, ``others``."""
OTHERS = "others"
PER_PAGE = 50
GROUPS = ("day", "pipeline", "run")
"""What rows may be of."""
SERIES = ("pipeline", "stage", "site")
"""What series of a chart may be of."""


@dataclass(frozen=True)
class Filters:
    """Which bookings: of ``accounts``, from the day ``since`` to the day ``until``, both included, in ``time_zone``."""

    accounts: Sequence[int]
    since: date
    until: date
    time_zone: str = "UTC"
    site: int | None = None
    pipeline: str | None = None
    stage: str | None = None
    run: UUID | None = None

    def __post_init__(self) -> None:
        if not 0 <= (self.until - self.since).days < MOST_DAYS:
            told = f"{self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}"
            raise HistoryRefused(f"expected 1 to {MOST_DAYS} days, got: {told}")

    @property
    def days(self) -> list[date]:
        """Every day of it."""
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]

    def values(self) -> dict[str, Any]:
        """For the statements."""
        return {**vars(self), "accounts": list(self.accounts), "end": self.until + timedelta(days=1)}


@dataclass(frozen=True)
class Series:
    """Thousandths of a credit for each day of a chart."""

    name: str
    values: Sequence[int]


@dataclass(frozen=True)
class Chart:
    """``series`` have a value for each of ``days``; the largest first."""

    days: Sequence[date]
    series: Sequence[Series]

    @property
    def total(self) -> int:
        """Thousandths of a credit."""
        return sum(sum(one.values) for one in self.series)


@dataclass(frozen=True)
class Row:
    """What one day, pipeline or run has used, in thousandths of a credit."""

    name: str
    credits: int
    pipeline: str = ""
    site: str = ""
    started_at: datetime | None = None
    """Of a run."""


@dataclass(frozen=True)
class Page:
    """``next`` is the cursor of the page after this one; ``None`` after the last."""

    rows: Sequence[Row]
    next: str | None


def chart(filters: Filters, by: str = "pipeline") -> Chart:
    """Credits by day, one series for each pipeline, stage or site. Two queries at most."""
    column = {"pipeline": "pipeline", "stage": "stage", "site": "site_id"}[_one_of(by, SERIES)]
    found: dict[Any, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    statement = f"SELECT day, {column}, sum(amount)::bigint FROM ({_USED}) AS used GROUP BY 1, 2"
    for day, name, amount in _rows(statement, filters):
        found[name][day] += amount
    names = _names(found) if by == "site" else {}
    largest = sorted(found, key=lambda name: (-sum(found[name].values()), str(name)))
    series = [Series(names.get(name, str(name)), [found[name][day] for day in filters.days]) for name in largest]
    if len(series) > MOST_SERIES:
        rest = series[MOST_SERIES - 1 :]
        merged = [sum(values) for values in zip(*(one.values for one in rest), strict=True)]
        series = [*series[: MOST_SERIES - 1], Series(OTHERS, merged)]
    return Chart(filters.days, series)


def page(filters: Filters, by: str = "day", *, after: str = "", limit: int = PER_PAGE) -> Page:
    """Rows of days (newest first), pipelines (by name) or runs (the last that started first), from a cursor on.

    Raises ``HistoryRefused`` for a cursor that no page of this kind has given.
    """
    read = {"day": _days, "pipeline": _pipelines, "run": _runs}[_one_of(by, GROUPS)]
    keyed = read(filters, after, limit + 1)
    more = len(keyed) > limit
    kept = keyed[:limit]
    return Page([row for _, row in kept], kept[-1][0] if more else None)


def _days(filters: Filters, after: str, limit: int) -> list[tuple[str, Row]]:
    try:
        before = date.fromisoformat(after) if after else filters.until + timedelta(days=1)
    except ValueError:
        raise _wrong_cursor(after) from None
    statement = f"""
        SELECT day, sum(amount)::bigint FROM ({_USED}) AS used WHERE day < %(before)s
         GROUP BY 1 ORDER BY 1 DESC LIMIT %(limit)s
    """
    found = _rows(statement, filters, {"before": before, "limit": limit})
    return [(day.isoformat(), Row(day.isoformat(), amount)) for day, amount in found]


def _pipelines(filters: Filters, after: str, limit: int) -> list[tuple[str, Row]]:
    statement = f"""
        SELECT pipeline, sum(amount)::bigint FROM ({_USED}) AS used WHERE pipeline > %(after)s
         GROUP BY 1 ORDER BY 1 LIMIT %(limit)s
    """
    found = _rows(statement, filters, {"after": after, "limit": limit})
    return [(name, Row(name, amount, pipeline=name)) for name, amount in found]


def _runs(filters: Filters, after: str, limit: int) -> list[tuple[str, Row]]:
    started, _, last = after.rpartition("~")
    try:
        cursor = (datetime.fromisoformat(started), UUID(last)) if after else None
    except ValueError:
        raise _wrong_cursor(after) from None
    beyond = "" if cursor is None else "AND (started_at, run_id) < (%(started)s, %(last)s)"
    statement = f"""
        SELECT run_id, started_at, min(pipeline), min(site_id), sum(amount)::bigint FROM ({_USED}) AS used
         WHERE started_at IS NOT NULL {beyond}
         GROUP BY 1, 2 ORDER BY 2 DESC, 1 DESC LIMIT %(limit)s
    """
    keyed = {"started": cursor[0], "last": cursor[1]} if cursor is not None else {}
    found = _rows(statement, filters, {**keyed, "limit": limit})
    names = _names({site for _, _, _, site, _ in found})
    return [
        (f"{at.isoformat()}~{run}", Row(str(run), amount, pipeline, names.get(site, str(site)), at))
        for run, at, pipeline, site, amount in found
    ]


def _rows(statement: str, filters: Filters, more: Mapping[str, Any] | None = None) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, filters.values() | dict(more or {}))
        return list(cursor.fetchall())


def _names(ids: Any) -> dict[Any, str]:
    return dict(Site.objects.filter(pk__in=[pk for pk in ids if pk is not None]).values_list("pk", "slug"))


def _one_of(given: str, allowed: Sequence[str]) -> str:
    if given not in allowed:
        raise HistoryRefused(f"expected one of {', '.join(allowed)}, got: {given[:40]!r}")
    return given


def _wrong_cursor(given: str) -> HistoryRefused:
    return HistoryRefused(f"expected the cursor of a page before, got: {given[:60]!r}")


_USED = f"""
    SELECT (transfer.created_at AT TIME ZONE %(time_zone)s)::date AS day, coalesce(price.pipeline, '') AS pipeline,
           transfer.stage, transfer.run_id, run.site_id, run.created_at AS started_at, line.amount
      FROM {TRANSFER} AS transfer
      JOIN {LINE} AS line ON line.transfer_id = transfer.id AND line.book = '{Line.Book.REVENUE.value}'
      LEFT JOIN {TRANSFER} AS corrected ON corrected.id = transfer.corrects_id
      LEFT JOIN {PRICE} AS price ON price.id = coalesce(transfer.price_id, corrected.price_id)
      LEFT JOIN {RUN_CREDITS} AS run ON run.run_id = transfer.run_id
     WHERE transfer.account_id = ANY(%(accounts)s::bigint[])
       AND transfer.kind IN ('{Transfer.Kind.CHARGE.value}', '{Transfer.Kind.CORRECTION.value}')
       AND transfer.created_at >= %(since)s::date::timestamp AT TIME ZONE %(time_zone)s
       AND transfer.created_at < %(end)s::date::timestamp AT TIME ZONE %(time_zone)s
       AND (%(site)s::bigint IS NULL OR run.site_id = %(site)s)
       AND (%(pipeline)s::text IS NULL OR price.pipeline = %(pipeline)s)
       AND (%(stage)s::text IS NULL OR transfer.stage = %(stage)s)
       AND (%(run)s::uuid IS NULL OR transfer.run_id = %(run)s)
"""
