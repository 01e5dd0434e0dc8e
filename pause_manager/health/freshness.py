"""Whether what is shown and decided from is true now: polls, samples, clocks, Redis, the layers of the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import redis
from django.db import connection
from django.db.models.functions import Now

from pause_manager import conf, times
from pause_manager.messaging import redis_clients
from pause_manager.models import CounterTotal, PollState
from pause_manager.nodes import clock_skew, registry
from pause_manager.nodes.machines import identity, renaming
from pause_manager.observability import metrics
from pause_manager.workloads import Finding

LATE_POLLS = 3
"""The number of intervals that may pass without a poll."""
DEGRADED = timedelta(minutes=1)


def findings() -> Iterator[Finding]:
    """Facts about the figures themselves. A constant number of statements, and one ping."""
    yield from _poll()
    yield from _redis()
    yield from _nodes()
    yield from _clocks()
    yield from _layers()


def _poll() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute(_POLL_AGE)
        row = cursor.fetchone()
    age = row[0] if row else None
    if age is not None and age <= LATE_POLLS * conf.settings().poll_interval_seconds:
        yield Finding(
            "fresh", "good", "polled", f"Capacity and the pause queue were looked at {times.length(age)} ago."
        )
        return
    when = "have never been looked at" if age is None else f"were last looked at {times.length(age)} ago"
    yield Finding(
        "fresh",
        "problem",
        "poll_late",
        f"Capacity and the pause queue {when}: nothing that is parked resumes by itself.",
        cause="Celery beat, or the worker of the control queue, is down or cannot reach its broker",
        next_step=f"start celery beat and a worker with -Q {conf.settings().control_queue}; see /readyz",
    )


def _redis() -> Iterator[Finding]:
    try:
        redis_clients.client().ping()
    except redis.RedisError as error:
        yield Finding(
            "fresh",
            "problem",
            "redis_away",
            "Redis does not answer: samples are those of the database, and workers hear of changes later.",
            cause=type(error).__name__,
            next_step="start Redis, or look at REDIS_URL",
        )


def _nodes() -> Iterator[Finding]:
    known = registry.states()
    gone = [state for state in known if not state.is_online]
    if live := len(known) - len(gone):
        yield Finding("fresh", "good", "nodes_seen", f"{live:,} node{' is' if live == 1 else 's are'} sampled.")
    if gone:
        names = ", ".join(f"{one.row.name} ({times.length(one.age_seconds)} ago)" for one in gone[:5])
        yield Finding(
            "fresh",
            "note",
            "nodes_silent",
            f"{len(gone):,} node{' is' if len(gone) == 1 else 's are'} silent, last seen: {names}.",
            cause="its workers have ended, or its machine or network is gone",
            next_step="nothing, if that was meant: it is forgotten after an hour",
        )
    for sentence in [*identity.contested(), *renaming.differing()]:
        yield Finding(
            "fresh",
            "note",
            "nodes_mixed_up",
            f"{sentence[0].upper()}{sentence[1:].removesuffix('.')}.",
            cause="two machines, or two settings of one, give different names",
            next_step="give each machine one name: NODE_NAME",
        )


def _clocks() -> Iterator[Finding]:
    wrong = [clock for clock in clock_skew.all_clocks() if clock.is_wrong]
    if wrong:
        yield Finding(
            "fresh",
            "note",
            "clocks_differ",
            f"{len(wrong)} clock{' differs' if len(wrong) == 1 else 's differ'} from the database's: "
            f"{'; '.join(clock.sentence for clock in wrong[:3])}.",
            cause="NTP does not run there",
            next_step="set the clock; nothing is decided by it, but logs mislead",
        )


def _layers() -> Iterator[Finding]:
    lately = CounterTotal.objects.filter(name=metrics.DEGRADED.name, counted_at__gt=Now() - DEGRADED)
    layers = sorted({json.loads(labels)["layer"] for labels in lately.values_list("labels", flat=True)})
    if layers:
        yield Finding(
            "fresh",
            "problem",
            "gate_degraded",
            f"The gate could not read {', '.join(layers)} within the last minute.",
            cause="a statement failed or timed out; layers that stop work stop it while they cannot be read",
            next_step="look at the log for 'could not be judged'",
        )


_POLL_AGE = f"""
    SELECT extract(epoch FROM statement_timestamp() - polled_at)::float8
      FROM {PollState._meta.db_table} WHERE id = 1 AND polled_at IS NOT NULL
"""
