"""The page with the list of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.utils.dateparse import parse_datetime

from automation import gate
from automation.gate import installed_code
from automation.models import AutomationRun, Lifecycle
from automation.models.tables import STAGE
from automation.reports import payload_access, status
from automation.reports.slice_totals import DONE
from backend.console import access
from pause_manager.console.pages import Context, Page, Query
from pause_manager.console.viewer import Viewer

PAGE_SIZE = 20

FILTERS: dict[str, tuple[str, Q]] = {
    "": ("All", Q()),
    "active": ("Active", Q(finished_at__isnull=True)),
    "paused": ("Paused", Q(finished_at__isnull=True, paused_at__isnull=False)),
    "completed": ("Completed", Q(lifecycle=Lifecycle.COMPLETED, failed_items=0)),
    "completed_with_failures": ("With failures", Q(lifecycle=Lifecycle.COMPLETED, failed_items__gt=0)),
    "failed": ("Failed", Q(lifecycle=Lifecycle.FAILED)),
    "cancelled": ("Cancelled", Q(lifecycle=Lifecycle.CANCELLED)),
}


def context(viewer: Viewer, asked: Query) -> Context:
    """Return one page of the runs that the viewer may see; ``asked`` has ``status`` and, for older runs, ``before``."""
    user = viewer.user
    chosen = asked.get("status", "") if asked.get("status") in FILTERS else ""
    runs = AutomationRun.objects.visible_to(user).filter(FILTERS[chosen][1]).with_leases().select_related("site")
    before = asked.get("before", "")
    is_paged = (last_seen := _place(before)) is not None
    if last_seen is not None:
        moment, pk = last_seen
        runs = runs.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__lt=pk))
    rows = list(runs.order_by("-created_at", "-id")[: PAGE_SIZE + 1])
    shown = rows[:PAGE_SIZE]
    last = shown[-1] if len(rows) > PAGE_SIZE else None
    is_shown = payload_access.may_view(user)
    return {
        "rows": [_row(run, shares, is_shown=is_shown) for run, shares in _with_shares(shown)],
        "filters": [(slug, title) for slug, (title, _) in FILTERS.items()],
        "chosen": chosen,
        "before": before if is_paged else "",
        "older": f"{last.created_at.isoformat()}_{last.pk}" if last else "",
        "may_start": viewer.has_perm(access.OPERATE),
        "has_any": bool(rows) or AutomationRun.objects.visible_to(user).exists(),
    }


def _place(before: str) -> tuple[datetime, UUID] | None:
    """Parse the time and id of the last run of a page; ``None`` if ``before`` is not such a pair."""
    when, _, pk = before.partition("_")
    try:
        moment, run_id = parse_datetime(when), UUID(pk)
    except ValueError:
        return None
    return (moment, run_id) if moment is not None and moment.tzinfo is not None else None


def _with_shares(runs: list[AutomationRun]) -> list[tuple[AutomationRun, list[dict[str, Any]]]]:
    """Pair each run with the progress of its stages, in one query for all."""
    with connection.cursor() as cursor:
        cursor.execute(_STAGES, [[run.pk for run in runs]])
        names = [column.name for column in cursor.description or ()]
        stages = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    by_run: dict[Any, list[dict[str, Any]]] = {}
    for row in stages:
        by_run.setdefault(row["run_id"], []).append(row)
    return [(run, by_run.get(run.pk, [])) for run in runs]


_STAGES = f"""
    SELECT stage.run_id, stage.slug, stage.lifecycle, stage.total_items, done.processed, done.failed,
           stage.definition->>'title' AS title, stage.definition->>'interface' AS interface
      FROM {STAGE} AS stage CROSS JOIN LATERAL ({DONE}) AS done
     WHERE stage.run_id = ANY(%s) AND stage.position >= 0
     ORDER BY stage.run_id, stage.position
"""


def _row(run: AutomationRun, stages: list[dict[str, Any]], *, is_shown: bool) -> dict[str, Any]:
    shares = [_share(stage) for stage in stages]
    percentage = 100.0 if run.lifecycle == Lifecycle.COMPLETED else 100 * sum(shares) / max(1, len(shares))
    current = [
        stage["title"] or installed_code.title_of(run.pipeline, stage["slug"])
        for stage in stages
        if stage["lifecycle"] == Lifecycle.RUNNING
    ]
    is_waiting = run.lifecycle == Lifecycle.PENDING or _lacks_code(run, stages)
    reasons = payload_access.without_texts(gate.explain(run)) if is_waiting else []
    return {
        "run": run,
        "title": installed_code.pipeline_title(run.pipeline),
        "status": status.of(run, has_reasons=bool(reasons)),
        "percentage": percentage,
        "stage": ", ".join(current) if run.finished_at is None else "",
        "failed": sum(stage["failed"] for stage in stages),
        "why": reasons[0].sentence if reasons else payload_access.failure(run.failure, is_shown=is_shown),
    }


def _lacks_code(run: AutomationRun, stages: list[dict[str, Any]]) -> bool:
    """Return whether the code of a running stage is not in this release."""
    if run.lifecycle != Lifecycle.RUNNING:
        return False
    wanted = {f"{run.pipeline}/{one['slug']}/{one['interface']}" for one in stages if one["lifecycle"] == "running"}
    return not wanted.issubset(installed_code.keys())


def _share(stage: dict[str, Any]) -> float:
    if not stage["total_items"]:
        return float(stage["lifecycle"] == Lifecycle.COMPLETED)
    return float(stage["processed"] + stage["failed"]) / float(stage["total_items"])


PAGE = Page(
    name="runs",
    path="runs/",
    title="Runs",
    template="console/runs/content.html",
    context=context,
    may_view=access.may_view,
    icon="runs",
    order=110,
    key="r",
    follows_progress=True,
    styles=("console/runs.css",),
)
