"""Working time of runs. The clock stops while any hold covers the run, and while none of its work can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from automation.gate import delays
from automation.models import AutomationRun
from automation.models.tables import RUN, STAGE, STANDSTILL
from automation.pipeline.definition import QUEUE
from pause_manager.models import Hold
from pause_manager.observability import gate_health

# An array of the scopes that are read from the stages: joined to them, the planner expects many, and reads all holds.
_STOOD = f"""
    SELECT hold.created_at AS since, hold.released_at AS until
      FROM (SELECT unnest(ARRAY['fleet', 'pipeline:' || run.pipeline, 'lane:' || run.lane, 'run:' || run.id])
             UNION
            SELECT unnest(ARRAY(
                SELECT 'queue:' || {QUEUE} FROM {STAGE} AS stage WHERE stage.run_id = run.id
                 UNION
                SELECT 'resource:' || used.name
                  FROM {STAGE} AS stage, jsonb_array_elements_text(stage.definition->'uses') AS used(name)
                 WHERE stage.run_id = run.id))) AS covering(scope)
      JOIN {Hold._meta.db_table} AS hold ON hold.scope = covering.scope
     UNION ALL
    SELECT standstill.since, standstill.until
      FROM {STANDSTILL} AS standstill WHERE standstill.run_id = run.id
     UNION ALL
    SELECT stage.started_at, stage.begins_at
      FROM {STAGE} AS stage
     WHERE stage.run_id = run.id AND stage.begins_at IS NOT NULL
       AND {delays.ALONE.format(since="stage.started_at", until="stage.begins_at")}
     UNION ALL
    SELECT {delays.BATCH_ENDED_AT}, NULL
      FROM {STAGE} AS stage
     WHERE stage.run_id = run.id AND stage.lifecycle = 'running' AND stage.batch_id IS NOT NULL
       AND {delays.BETWEEN_BATCHES}
       AND {delays.ALONE.format(since=delays.BATCH_ENDED_AT, until="statement_timestamp()")}
"""

_CLOCKS = f"""
     CROSS JOIN LATERAL (
            SELECT extract(epoch FROM least({{of}}.finished_at, statement_timestamp()) - {{of}}.started_at) AS seconds
           ) AS clock
     CROSS JOIN LATERAL (
            SELECT sum(extract(epoch FROM upper(stretch) - lower(stretch))) AS seconds
              FROM (SELECT unnest(range_agg(tstzrange(
                               greatest(stood.since, {{of}}.started_at),
                               least(stood.until, {{of}}.finished_at, statement_timestamp())))) AS stretch
                      FROM ({_STOOD}) AS stood
                     WHERE stood.since < least({{of}}.finished_at, statement_timestamp())
                       AND (stood.until IS NULL OR stood.until > {{of}}.started_at)) AS stretches) AS held
"""
"""SQL over ``run`` and, if ``of`` is that, ``stage``: the seconds of ``clock`` since its start, and those ``held``."""

_DURATIONS = f"""
    SELECT run.id, clock.seconds::float8, (clock.seconds - coalesce(held.seconds, 0))::float8
      FROM {RUN} AS run {_CLOCKS.format(of="run")}
     WHERE run.id = ANY(%(ids)s::uuid[]) AND run.started_at IS NOT NULL
"""

_DURATIONS_BY_PAUSES = f"""
    SELECT run.id, taken.seconds, taken.seconds - run.paused_seconds
      FROM {RUN} AS run
     CROSS JOIN LATERAL (
            SELECT extract(epoch FROM coalesce(run.finished_at, statement_timestamp()) - run.started_at)::float8
           ) AS taken(seconds)
     WHERE run.id = ANY(%(ids)s::uuid[]) AND run.started_at IS NOT NULL
"""

_OVERDUE_STAGES = f"""
    SELECT run.id, at.slug, at.allowed, (clock.seconds - coalesce(held.seconds, 0))::float8 AS active
      FROM {RUN} AS run
      JOIN (SELECT run_id, slug, started_at, finished_at, (definition->>'timeout')::float8 AS allowed
              FROM {STAGE} WHERE lifecycle = 'running') AS at ON at.run_id = run.id {_CLOCKS.format(of="at")}
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running' AND run.cancel_requested_at IS NULL
       AND at.started_at < statement_timestamp() - make_interval(secs => at.allowed)
       AND clock.seconds - coalesce(held.seconds, 0) > at.allowed
"""


@dataclass(frozen=True)
class Durations:
    """Seconds since the start: ``total`` by the clock, ``active`` without holds and standstills."""

    total: float
    active: float


class OverdueStage(NamedTuple):
    """A running stage that has worked for ``active`` seconds, more than it is ``allowed``."""

    run_id: UUID
    slug: str
    allowed: float
    active: float


def overdue_stages() -> list[OverdueStage]:
    """The running stages that have exceeded their timeout, in working time; one statement."""
    with connection.cursor() as cursor:
        cursor.execute(_OVERDUE_STAGES)
        return [OverdueStage(*row) for row in cursor.fetchall()]


def durations_of(runs: Iterable[AutomationRun]) -> dict[UUID, Durations]:
    """How long each of ``runs`` has taken until now or its end, by one statement.

    Holds on the fleet, the run, its pipeline, its lane, any queue or resource of its stages stop the clock of
    ``active``; overlapping holds and standstills count once. A run that has not started has taken no time. If holds
    cannot be read, only the pauses of the run itself count.
    """
    runs = list(runs)
    try:
        with gate_health.guarded_read("telemetry"):
            taken = _durations(_DURATIONS, runs)
    except Exception:
        taken = _durations(_DURATIONS_BY_PAUSES, runs)
    return {run.pk: taken.get(run.pk, Durations(0.0, 0.0)) for run in runs}


def _durations(statement: str, runs: Iterable[AutomationRun]) -> dict[UUID, Durations]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"ids": [run.pk for run in runs]})
        return {pk: Durations(max(0.0, total), max(0.0, active)) for pk, total, active in cursor.fetchall()}
