"""Counters minute by minute, for charts: the writer of :class:`CounterSample`.

Only of counters that somebody asked to keep; a chart over an hour reads sixty rows, whatever was counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db import connection

from pause_manager import conf
from pause_manager.database import batches
from pause_manager.models import CounterSample, CounterTotal
from pause_manager.observability.metrics import Counter

_SAMPLE, _TOTAL = CounterSample._meta.db_table, CounterTotal._meta.db_table
_RECORD = f"""
    INSERT INTO {_SAMPLE} (minute, name, value)
    SELECT date_trunc('minute', statement_timestamp()), name, sum(value) FROM {_TOTAL}
     WHERE name = ANY(%s) GROUP BY name
        ON CONFLICT DO NOTHING
"""

_kept: set[str] = set()


@dataclass(frozen=True)
class Increase:
    """What was counted in the minute from ``minute`` on; ``None`` if it was not looked at."""

    minute: datetime
    amount: float | None


def keep(*counters: Counter) -> None:
    """Keep a sample of ``counters`` each minute."""
    _kept.update(counter.name for counter in counters)


def record() -> int:
    """Keep this minute's samples, by the database's clock, unless they are there; returns how many were kept."""
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, [sorted(_kept)])
        kept: int = cursor.rowcount
    return kept


def increases(counter: Counter, *, now: datetime, minutes: int = 60) -> list[Increase]:
    """What ``counter`` grew by in each of the last whole ``minutes``, the oldest first.

    Samples that are further apart than a minute share what was counted between them. One that is lower than the one
    before, because totals were deleted, counts as no increase.
    """
    end = now.replace(second=0, microsecond=0)
    start = end - timedelta(minutes=minutes)
    rows = CounterSample.objects.filter(name=counter.name, minute__gte=start - timedelta(minutes=1), minute__lte=end)
    found: dict[datetime, float] = {}
    samples = list(rows.order_by("minute").values_list("minute", "value"))
    for (before, low), (after, high) in pairwise(samples):
        steps = round((after - before).total_seconds() / 60)
        for step in range(steps):
            found[before + timedelta(minutes=step)] = max(0.0, high - low) / steps
    every = [start + timedelta(minutes=step) for step in range(minutes)]
    return [Increase(minute, found.get(minute)) for minute in every]


def forget() -> int:
    """Delete the samples that are older than ``history_days``; returns how many."""
    return batches.delete(
        _SAMPLE,
        "minute",
        "minute < statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)",
        {"days": conf.settings().history_days},
        size=10_000,
    )
