"""The resources that stages use: those that this release declares, and how much of them loops use now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db import connection

from automation.gate import resource_line
from automation.gate.resource_limits import LOOPS
from automation.models import AutomationRun
from automation.models.tables import RUN, SLICE, STAGE
from automation.pipeline import all_pipelines
from pause_manager import scopes
from pause_manager.workloads import Waiter


def declared() -> Iterable[str]:
    """Every resource that a stage of this release may use."""
    return {name for pipeline in all_pipelines() for stage in pipeline.stages for name in stage.uses}


def by_loops(limits: Mapping[str, int | None]) -> Mapping[str, int]:
    """How much of each loops use; one that works on more items at once than the limit counts for the limit."""
    if not limits:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_IN_USE, {"names": list(limits), "limits": list(limits.values())})
        return dict(cursor.fetchall())


def waiting(names: Collection[str]) -> Mapping[str, int]:
    """How many running stages use each, have work that is due, and no loop."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, {"names": list(names)})
        return dict(cursor.fetchall())


def line(name: str, at_most: int, user: Any) -> list[Waiter]:
    """The first stages in line, of workers and of agents; of runs that ``user`` does not see only the place."""
    found = resource_line.first(name, at_most)
    seen = {one.run_id for one in found}
    if user is not None:
        seen = set(AutomationRun.objects.visible_to(user).filter(pk__in=seen).values_list("pk", flat=True))
    return [
        Waiter(
            "agent" if one.is_for_agents else "run",
            one.position,
            one.priority,
            *((scopes.run(one.run_id), f"{one.pipeline}/{one.slug}") if one.run_id in seen else ()),
        )
        for one in found
    ]


_IN_USE = f"""
    SELECT asked.name, ({LOOPS.format(limit="asked.most", name="asked.name")})
      FROM unnest(%(names)s::text[], %(limits)s::int[]) AS asked(name, most)
"""

_WAITING = f"""
    SELECT used.name, count(*)::int
      FROM {RUN} AS run JOIN {STAGE} AS stage ON stage.run_id = run.id
     CROSS JOIN LATERAL jsonb_array_elements_text(stage.definition->'uses') AS used(name)
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running' AND run.paused_at IS NULL
       AND stage.lifecycle = 'running' AND used.name = ANY(%(names)s::text[])
       AND EXISTS (SELECT FROM {SLICE} AS slice WHERE slice.stage_run_id = stage.id AND slice.finished_at IS NULL)
       AND NOT EXISTS (SELECT FROM {SLICE} AS slice WHERE slice.stage_run_id = stage.id
                          AND slice.finished_at IS NULL AND slice.lease_token IS NOT NULL)
     GROUP BY used.name
"""
