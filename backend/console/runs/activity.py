"""The activity chart: runs created per hour or day, and how many of these have failed. A column selects its time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.utils.html import escape
from django.utils.safestring import SafeString

from automation.models.tables import RUN
from backend.console.runs import filters
from backend.console.runs.audience import Audience
from backend.console.runs.filters import Wanted

MOST = 2_000
"""Runs counted per column, of everybody's or of an account's: a busier column is as high as that, and says so."""
WIDTH, HEIGHT = 1000, 56
SPANS = {"day": ("24 hours", "hour", 24), "month": ("30 days", "day", 30)}


@dataclass(frozen=True)
class Column:
    """One hour or day."""

    since: datetime
    until: datetime
    runs: int
    failed: int
    is_more: bool
    is_chosen: bool
    url: str
    x: float
    width: float
    height: float
    failed_height: float

    @property
    def link(self) -> SafeString:
        """The column as SVG, which selects its time."""
        runs = f"{self.runs:,}{'+' if self.is_more else ''} run{'' if self.runs == 1 else 's'}"
        words = f"{self.since:%Y-%m-%d %H:%M} UTC: {runs}, {self.failed:,} failed"
        boxes = (("hit", HEIGHT), ("all", self.height), ("failed", self.failed_height))
        shapes = "".join(
            f'<rect class="{kind}" x="{self.x}" y="{HEIGHT - height}" width="{self.width}" height="{height}"/>'
            for kind, height in boxes
        )
        chosen = " is-chosen" if self.is_chosen else ""
        return SafeString(
            f'<a href="?{escape(self.url)}" class="column{chosen}" aria-label="{words}">\n'
            f"      <title>{words}</title>\n      {shapes}</a>"
        )


def chart(wanted: Wanted, audience: Audience) -> dict[str, Any]:
    """The context of the chart. One statement, which looks at a bounded number of rows."""
    span = wanted.span if wanted.span in SPANS else "day"
    title, unit, length = SPANS[span]
    counted = _counted(unit, length, audience)
    most = max([1, *(runs for _, runs, _ in counted)])
    step = timedelta(hours=1) if unit == "hour" else timedelta(days=1)
    width = WIDTH / length
    columns = []
    for index, (since, runs, failed) in enumerate(counted):
        until = since + step
        columns.append(
            Column(
                since,
                until,
                min(runs, MOST),
                min(failed, MOST),
                runs > MOST,
                _is_chosen(wanted, since, until),
                _url(wanted, since, until),
                round(index * width + width * 0.1, 2),
                round(width * 0.8, 2),
                round(HEIGHT * runs / most, 2),
                round(HEIGHT * min(failed, runs) / most, 2),
            )
        )
    return {
        "columns": columns,
        "unit": unit,
        "title": title,
        "spans": [(name, words, wanted.url(span=name), name == span) for name, (words, _, _) in SPANS.items()],
        "is_chosen": bool(wanted.since or wanted.until),
        "clear": wanted.url(**{"from": "", "to": ""}),
        "width": WIDTH,
        "height": HEIGHT,
        "column_width": round(width, 2),
    }


def _is_chosen(wanted: Wanted, since: datetime, until: datetime) -> bool:
    if not (wanted.since or wanted.until):
        return False
    return (wanted.since is None or wanted.since <= since) and (wanted.until is None or until <= wanted.until)


def _url(wanted: Wanted, since: datetime, until: datetime) -> str:
    """The first column that is chosen is the range; a second one extends it, and one inside it is chosen alone."""
    if wanted.since and wanted.until and not (wanted.since <= since and until <= wanted.until):
        since, until = min(since, wanted.since), max(until, wanted.until)
    return wanted.url(**{"from": filters.written(since), "to": filters.written(until)})


def _counted(unit: str, length: int, audience: Audience) -> list[tuple[datetime, int, int]]:
    """(start, runs, failed) of each column, the last one being now."""
    of_accounts = "" if audience.accounts is None else "AND run.account_id = account.id"
    accounts = "(SELECT 1) AS account" if audience.accounts is None else "unnest(%(accounts)s::bigint[]) AS account(id)"
    counting = f"""
        SELECT coalesce(sum(counted.n), 0)::int FROM {accounts} CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM (
                SELECT 1 FROM {RUN} AS run
                 WHERE run.created_at >= slot.since AND run.created_at < slot.since + %(step)s::interval
                   AND run.deleted_at IS NULL {of_accounts} {{more}} LIMIT {MOST + 1}) AS found) AS counted
    """
    statement = f"""
        SELECT slot.since, ({counting.format(more="")}), ({counting.format(more="AND run.lifecycle = 'failed'")})
          FROM generate_series(
               date_trunc(%(unit)s, statement_timestamp(), 'UTC') - %(step)s::interval * (%(length)s - 1),
               statement_timestamp(), %(step)s::interval) AS slot(since)
         ORDER BY slot.since
    """
    values: dict[str, Any] = {
        "unit": unit,
        "step": f"1 {unit}",
        "length": length,
        "accounts": list(audience.accounts or ()),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [(since.astimezone(UTC), runs, failed) for since, runs, failed in cursor.fetchall()]
