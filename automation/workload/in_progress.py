"""What is leased under a hold on more than a run, so that the moment when the last of it has stopped is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import orjson
from django.db import connection

from automation.models.tables import RUN, SLICE, STAGE
from automation.pipeline.definition import QUEUE
from pause_manager.scopes import resource
from pause_manager.workloads import Counts


def leased(scopes: Collection[str]) -> Mapping[str, Counts]:
    """Leases and runs by scope; a lease of a lost worker counts until it is ended. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_LEASED)
        rows = cursor.fetchall()
    leases: dict[str, int] = {}
    runs: dict[str, set[str]] = {}
    for pipeline, lane, queue, node, used, count, run_ids in rows:
        covering = {"fleet", f"pipeline:{pipeline}", f"lane:{lane}", f"node:{node}", f"queue:{queue}"}
        covering.update(map(resource, orjson.loads(used)))
        for scope in covering.intersection(scopes):
            leases[scope] = leases.get(scope, 0) + count
            runs.setdefault(scope, set()).update(run_ids)
    return {scope: {"leases": count, "runs": len(runs[scope])} for scope, count in leases.items()}


_LEASED = f"""
    SELECT run.pipeline, run.lane, {QUEUE}, slice.lease_node, coalesce(stage.definition->>'uses', '[]'), count(*),
           array_agg(DISTINCT run.id::text)
      FROM {SLICE} AS slice
      JOIN {STAGE} AS stage ON stage.id = slice.stage_run_id
      JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE slice.lease_token IS NOT NULL AND slice.finished_at IS NULL
     GROUP BY 1, 2, 3, 4, 5
"""
