"""How long final runs are kept: set by their site, else their pipeline, else the settings; else forever."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.db import connection

from automation import conf
from automation.errors import TransitionRefused
from automation.gate import installed_code
from automation.models import Site
from automation.models.tables import RUN
from automation.retention import deletion
from pause_manager.actor import SYSTEM

AT_ONCE = 500
"""Most runs that one call deletes."""


def delete_due(limit: int = AT_ONCE) -> int:
    """Delete the runs whose retention has expired, at most ``limit``; returns how many."""
    deleted = 0
    for run_id, days in due(limit):
        try:
            deleted += deletion.delete(run_id, actor=SYSTEM, reason=why(days))
        except TransitionRefused:
            continue  # something still needs it; the next call tries again
    return deleted


def due(limit: int = AT_ONCE) -> list[tuple[UUID, float]]:
    """(run id, its retention in days) of runs whose retention has expired, at most ``limit``."""
    rules = _rules()
    if not rules:
        return []
    sites, pipelines, days = (list(column) for column in zip(*rules, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"sites": sites, "pipelines": pipelines, "days": days, "limit": limit})
        return list(cursor.fetchall())


def all_due() -> Iterator[tuple[UUID, str]]:
    """Yield (run id, reason) of every run whose retention has expired; the caller deletes each before the next."""
    seen: set[UUID] = set()
    while found := [(run_id, days) for run_id, days in due() if run_id not in seen]:
        for run_id, days in found:
            seen.add(run_id)
            yield run_id, why(days)


def why(days: float) -> str:
    """The reason recorded with the deletion."""
    return f"it ended more than {days:g} days ago"


def _rules() -> list[tuple[int, str, float]]:
    """(site, pipeline, days) for each pair with a retention."""
    with connection.cursor() as cursor:
        cursor.execute(_PIPELINES)
        slugs = [row[0] for row in cursor.fetchall()]
    known = {slug: installed_code.pipeline_of(slug) for slug in slugs}
    declared = {slug: pipeline.retention_days for slug, pipeline in known.items() if pipeline is not None}
    for_all = conf.settings().retention_days
    rules = []
    for site, of_site in Site.objects.order_by("pk").values_list("pk", "retention_days"):
        for slug in slugs:
            days = next((days for days in (of_site, declared.get(slug), for_all) if days is not None), None)
            if days is not None:
                rules.append((site, slug, float(days)))
    return rules


# The pipelines of existing runs, including those without code: one index look-up for each.
_PIPELINES = f"""
    WITH RECURSIVE used AS (
        SELECT min(pipeline) AS pipeline FROM {RUN} WHERE deleted_at IS NULL
         UNION ALL
        SELECT (SELECT min(pipeline) FROM {RUN} WHERE deleted_at IS NULL AND pipeline > used.pipeline)
          FROM used WHERE used.pipeline IS NOT NULL
    )
    SELECT pipeline FROM used WHERE pipeline IS NOT NULL
"""
_DUE = f"""
    SELECT ended.id, rule.days
      FROM unnest(%(sites)s::bigint[], %(pipelines)s::text[], %(days)s::float8[]) AS rule(site, pipeline, days)
     CROSS JOIN LATERAL (
            SELECT id, finished_at FROM {RUN}
             WHERE site_id = rule.site AND pipeline = rule.pipeline AND finished_at IS NOT NULL AND deleted_at IS NULL
               AND finished_at < statement_timestamp() - make_interval(secs => 86400 * rule.days)
             ORDER BY finished_at LIMIT %(limit)s) AS ended
     ORDER BY ended.finished_at LIMIT %(limit)s
"""
