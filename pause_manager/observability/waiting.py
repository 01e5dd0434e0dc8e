"""What waits for what, as a figure and its history: the writer of :class:`WaitingSample`."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Subquery
from django.db.models.functions import Now

from pause_manager import conf, workloads
from pause_manager.database import batches
from pause_manager.models import WaitingSample

ALL = "all"
MOST_ROWS = 20_000
LATE = timedelta(minutes=5)

Counts = dict[tuple[str, str], int]

_SAMPLE = WaitingSample._meta.db_table
_MINUTE = "date_trunc('minute', statement_timestamp())"
_IS_THERE = f"SELECT EXISTS (SELECT FROM {_SAMPLE} WHERE minute = {_MINUTE})"
_KEEP = f"""
    INSERT INTO {_SAMPLE} (minute, work, reason, count)
    SELECT {_MINUTE}, one.work, one.reason, one.count
      FROM unnest(%(works)s::text[], %(reasons)s::text[], %(counts)s::int[]) AS one(work, reason, count)
        ON CONFLICT DO NOTHING
"""


def counts() -> Counts:
    """How much waits now, by what it is (``runs``, ``tasks``) and the code of its first reason; without zeros."""
    return {key: count for key, count in workloads.waiting().items() if count}


def record() -> bool:
    """Keep a sample of this minute, by the database's clock, unless there is one; returns whether this call did it."""
    with connection.cursor() as cursor:
        cursor.execute(_IS_THERE)
        if cursor.fetchone()[0]:
            return False
        found = counts()
        rows = [*found.items(), ((ALL, ALL), sum(found.values()))]
        cursor.execute(
            _KEEP,
            {
                "works": [work for (work, _), _ in rows],
                "reasons": [reason for (_, reason), _ in rows],
                "counts": [count for _, count in rows],
            },
        )
        return bool(cursor.rowcount)


def latest() -> Counts:
    """The newest sample, without zeros; empty if none was kept within ``LATE``.

    A look at 100,000 waiting runs takes seconds: who asks often takes what was looked at for the history.
    """
    newest = WaitingSample.objects.filter(minute__gte=Now() - LATE).order_by("-minute").values("minute")[:1]
    rows = WaitingSample.objects.filter(minute=Subquery(newest)).exclude(work=ALL)
    return {(work, reason): count for work, reason, count in rows.values_list("work", "reason", "count")}


def history(since: datetime) -> list[WaitingSample]:
    """The samples from ``since`` on, the newest first, ``MOST_ROWS`` at most."""
    return list(WaitingSample.objects.filter(minute__gte=since).order_by("-minute", "work", "reason")[:MOST_ROWS])


def forget() -> int:
    """Delete the samples that are older than ``history_days``; returns how many."""
    return batches.delete(
        _SAMPLE,
        "minute",
        "minute < statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)",
        {"days": conf.settings().history_days},
        size=10_000,
    )
