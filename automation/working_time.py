"""How long a run has worked. While a hold keeps it, whoever placed the hold and on what, its clock stands."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import connection

from automation import gate
from automation.leases import RUN
from automation.models import AutomationRun
from pause_manager.models import Hold

_WORKED = f"""
    SELECT run.id,
           (extract(epoch FROM least(run.finished_at, statement_timestamp()) - run.started_at)
            - coalesce(held.seconds, 0))::float8
      FROM {RUN} AS run
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


def worked_seconds(runs: Iterable[AutomationRun]) -> dict[UUID, float]:
    """For how long each started run of ``runs`` has not been held, by the database's clock. One statement.

    Holds on the fleet, the run, its pipeline, its lane and any queue of its stages stop the clock; what several of them
    hold at a time counts once.
    """
    covers = [(run.pk, scope) for run in runs for scope in gate.scopes_of_all_stages(run)]
    with connection.cursor() as cursor:
        cursor.execute(
            _WORKED,
            {
                "ids": list({pk for pk, _ in covers}),
                "of": [pk for pk, _ in covers],
                "scopes": [scope for _, scope in covers],
            },
        )
        return {pk: max(0.0, seconds) for pk, seconds in cursor.fetchall()}
