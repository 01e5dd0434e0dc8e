"""How many items of a run were done when: the items of each of its slices, spread over the time they took.

However large the run is, a fixed number of its slices is read: evenly chosen ones stand for those between them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from automation.models import AutomationRun, StageRun
from automation.models.tables import SLICE
from automation.models.work import WorkSlice

SAMPLED = 1_000
"""Slices that are read of a run, at most."""
MOST_STEPS = 80
WIDTHS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 7 * 86_400)
"""Seconds of a step; the first with no more than ``MOST_STEPS`` steps is taken."""

_SPANS = f"""
    SELECT slice.finished_at, slice.lease_token IS NOT NULL, slice.processed, slice.failed, slice.busy_seconds,
           every.step, statement_timestamp()
      FROM unnest(%(stages)s::bigint[]) AS stage(id)
     CROSS JOIN LATERAL (
           SELECT ordinal AS last, greatest(1, ceil((ordinal + 1) / %(most)s::float8))::int AS step
             FROM {SLICE} WHERE stage_run_id = stage.id AND phase = {WorkSlice.Phase.WORK}
            ORDER BY ordinal DESC LIMIT 1) AS every
     CROSS JOIN LATERAL generate_series(0, every.last, every.step) AS number
     CROSS JOIN LATERAL (
           SELECT * FROM {SLICE} WHERE stage_run_id = stage.id AND phase = {WorkSlice.Phase.WORK} AND ordinal = number
           OFFSET 0) AS slice
     WHERE slice.processed + slice.failed > 0
"""


@dataclass(frozen=True)
class Span:
    """Some slices that ended alike: what they did, in the ``busy`` seconds of work before ``end``."""

    end: datetime
    busy: float
    processed: float
    failed: float


@dataclass(frozen=True)
class Step:
    """A stretch of a run's life: what was done in it."""

    since: datetime
    until: datetime
    processed: float
    failed: float

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True)
class Throughput:
    """A run's life in equal steps; the last one may be shorter."""

    steps: list[Step]
    step_seconds: float
    is_estimate: bool
    """Not every slice was read: the figures are about right."""


def of_run(run: AutomationRun, stages: Sequence[StageRun], stops: Sequence[tuple[datetime, datetime]]) -> Throughput:
    """The throughput of ``run`` until now or its end; ``stops`` are the stretches in which it did not work."""
    working = [stage.pk for stage in stages if stage.position >= 0 and stage.started_at is not None]
    if run.started_at is None or not working:
        return Throughput([], 0.0, is_estimate=False)
    with connection.cursor() as cursor:
        cursor.execute(_SPANS, {"stages": working, "most": max(1, SAMPLED // len(working))})
        rows = cursor.fetchall()
    now = rows[0][6] if rows else run.started_at
    rests = run.finished_at or run.paused_at or now
    spans = [
        # What is not finished was worked on until now, or until the run stopped.
        Span(finished_at or (now if is_leased else rests), busy, processed * step, failed * step)
        for finished_at, is_leased, processed, failed, busy, step, _ in rows
    ]
    until = run.finished_at or max(now, run.started_at)
    is_estimate = any(step > 1 for *_, step, _ in rows)
    found = steps_of(spans, stops, run.created_at, until)
    return Throughput(found, found[0].seconds if found else 0.0, is_estimate)


def steps_of(
    spans: Sequence[Span], stops: Sequence[tuple[datetime, datetime]], begin: datetime, end: datetime
) -> list[Step]:
    """Spread ``spans`` over the steps from ``begin`` to ``end``, evenly over the time in which work was possible."""
    life = (end - begin).total_seconds()
    if life <= 0:
        return []
    width = next((one for one in WIDTHS if life <= one * MOST_STEPS), WIDTHS[-1])
    count = math.ceil(life / width)
    edges = [min(number * width, life) for number in range(count + 1)]
    clock = _WorkingClock(
        [((since - begin).total_seconds(), (until - begin).total_seconds()) for since, until in stops]
    )
    at = [clock.at(edge) for edge in edges]
    processed, failed = [0.0] * count, [0.0] * count
    for span in spans:
        ended = min(max((span.end - begin).total_seconds(), 0.0), life)
        last = clock.at(ended)
        first = max(0.0, last - span.busy)
        if last - first < 1e-6:
            index = min(int(ended / width), count - 1)
            processed[index] += span.processed
            failed[index] += span.failed
            continue
        for index in range(max(0, bisect_right(at, first) - 1), count):
            if at[index] >= last:
                break
            share = (min(last, at[index + 1]) - max(first, at[index])) / (last - first)
            if share > 0:
                processed[index] += span.processed * share
                failed[index] += span.failed * share
    times = [begin + timedelta(seconds=edge) for edge in edges]
    return [Step(times[number], times[number + 1], processed[number], failed[number]) for number in range(count)]


class _WorkingClock:
    """Seconds of possible work until a time: it stands still within the stops."""

    def __init__(self, stops: Sequence[tuple[float, float]]) -> None:
        self._stops: list[tuple[float, float]] = []
        for since, until in sorted(stops):
            if self._stops and since <= self._stops[-1][1]:
                self._stops[-1] = (self._stops[-1][0], max(self._stops[-1][1], until))
            elif until > since:
                self._stops.append((since, until))

    def at(self, second: float) -> float:
        return second - sum(max(0.0, min(second, until) - max(0.0, since)) for since, until in self._stops)
