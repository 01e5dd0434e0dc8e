"""How long a run has worked. While a hold keeps it, whoever placed the hold and on what, its clock stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from automation import gate
from automation.leases import RUN
from automation.models import AutomationRun
from pause_manager.models import Hold

_DURATIONS = f"""
    SELECT run.id, clock.seconds::float8, (clock.seconds - coalesce(held.seconds, 0))::float8
      FROM {RUN} AS run
     CROSS JOIN LATERAL (
            SELECT extract(epoch FROM least(run.finished_at, statement_timestamp()) - run.started_at) AS seconds
           ) AS clock
     CROSS JOIN LATERAL (
            SELECT sum(extract(epoch FROM upper(stretch) - lower(stretch))) AS seconds
              FROM (SELECT unnest(range_agg(tstzrange(
                               greatest(hold.created_at, run.started_at),
                               least(hold.released_at, run.finished_at, statement_timestamp())))) AS stretch
                      FROM {Hold._meta.db_table} AS hold
                     WHERE hold.scope IN (SELECT scope FROM unnest(%(of)s::uuid[], %(scopes)s::text[]) AS one(id, scope)
                                           WHERE one.id = run.id)
                       AND hold.created_at < least(run.finished_at, statement_timestamp())
                       AND (hold.released_at IS NULL OR hold.released_at > run.started_at)) AS stretches) AS held
     WHERE run.id = ANY(%(ids)s::uuid[]) AND run.started_at IS NOT NULL
"""


@dataclass(frozen=True)
class Durations:
    """Seconds since the start: ``total`` by the clock, ``active`` without what it was held, whoever held it."""

    total: float
    active: float


def durations_of(runs: Iterable[AutomationRun]) -> dict[UUID, Durations]:
    """How long each of ``runs`` has taken until now or its end: both figures at one moment. One statement.

    Holds on the fleet, the run, its pipeline, its lane and any queue of its stages stop the clock of ``active``; what
    several of them hold at a time counts once. A run that has not started has taken no time.
    """
    runs = list(runs)
    covers = [(run.pk, scope) for run in runs for scope in gate.scopes_of_all_stages(run)]
    with connection.cursor() as cursor:
        cursor.execute(
            _DURATIONS,
            {
                "ids": list({pk for pk, _ in covers}),
                "of": [pk for pk, _ in covers],
                "scopes": [scope for _, scope in covers],
            },
        )
        taken = {pk: Durations(max(0.0, total), max(0.0, active)) for pk, total, active in cursor.fetchall()}
    return {run.pk: taken.get(run.pk, Durations(0.0, 0.0)) for run in runs}
