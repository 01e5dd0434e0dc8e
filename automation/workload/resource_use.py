"""The resources that stages use: those that this release declares, and how much of them loops use now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import connection

from automation.gate.resource_limits import LOOPS
from automation.pipeline import all_pipelines


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


_IN_USE = f"""
    SELECT asked.name, ({LOOPS.format(limit="asked.most", name="asked.name")})
      FROM unnest(%(names)s::text[], %(limits)s::int[]) AS asked(name, most)
"""
