"""Working time of runs. The clock stops while any hold covers the run, and while none of its work can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from automation.models import AutomationRun
from automation.models.tables import RUN, STAGE, STANDSTILL
from automation.pipeline.definition import QUEUE
from pause_manager.models import Hold

_STOOD = f"""
    SELECT hold.created_at AS since, hold.released_at AS until
      FROM (SELECT unnest(ARRAY['fleet', 'pipeline:' || run.pipeline, 'lane:' || run.lane, 'run:' || run.id])
             UNION
            SELECT 'queue:' || {QUEUE} FROM {STAGE} AS stage WHERE stage.run_id = run.id) AS covering(scope)
      JOIN {Hold._meta.db_table} AS hold ON hold.scope = covering.scope
     UNION ALL
    SELECT standstill.since, standstill.until
      FROM {STANDSTILL} AS standstill WHERE standstill.run_id = run.id
"""

_DURATIONS = f"""
    SELECT run.id, clock.seconds::float8, (clock.seconds - coalesce(held.seconds, 0))::float8
      FROM {RUN} AS run
     CROSS JOIN LATERAL (
            SELECT extract(epoch FROM least(run.finished_at, statement_timestamp()) - run.started_at) AS seconds
           ) AS clock
     CROSS JOIN LATERAL (
            SELECT sum(extract(epoch FROM upper(stretch) - lower(stretch))) AS seconds
              FROM (SELECT unnest(range_agg(tstzrange(
                               greatest(stood.since, run.started_at),
                               least(stood.until, run.finished_at, statement_timestamp())))) AS stretch
                      FROM ({_STOOD}) AS stood
                     WHERE stood.since < least(run.finished_at, statement_timestamp())
                       AND (stood.until IS NULL OR stood.until > run.started_at)) AS stretches) AS held
     WHERE run.id = ANY(%(ids)s::uuid[]) AND run.started_at IS NOT NULL
"""


@dataclass(frozen=True)
class Durations:
    """Seconds since the start: ``total`` by the clock, ``active`` without holds and standstills."""

    total: float
    active: float


def durations_of(runs: Iterable[AutomationRun]) -> dict[UUID, Durations]:
    """How long each of ``runs`` has taken until now or its end, by one statement.

    Holds on the fleet, the run, its pipeline, its lane and any queue of its stages stop the clock of ``active``;
    overlapping holds and standstills count once. A run that has not started has taken no time.
    """
    runs = list(runs)
    with connection.cursor() as cursor:
        cursor.execute(_DURATIONS, {"ids": [run.pk for run in runs]})
        taken = {pk: Durations(max(0.0, total), max(0.0, active)) for pk, total, active in cursor.fetchall()}
    return {run.pk: taken.get(run.pk, Durations(0.0, 0.0)) for run in runs}
