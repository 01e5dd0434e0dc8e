"""The page of one run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from automation.models import AutomationRun, Lifecycle, StageRun
from automation.models.work import ItemFailure, WorkItem
from automation.reports import payload_access
from automation.runs.retries import RETRYABLE
from backend.console import access
from backend.console.run import card, failures, log, throughput, timeline
from backend.console.run.outputs import Output, results_of
from pause_manager import workloads
from pause_manager.models import ControlEvent

PAGE_SIZE = 30
OUTPUTS = 10


@require_safe
@access.for_viewers
def page(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Show header, card, outputs, failures and log of a run."""
    run = access.visible_run(request, run_id)
    rights = card.Rights.of(request.user)
    found = card.context(run, rights)
    stage_runs = list(run.stages.order_by("position"))
    titles = {stage["slug"]: stage["title"] for stage in found["stages"]}
    found |= {
        "version": card.page_version(found),
        "may_see_payloads": rights.payloads,
        "outputs": _outputs(request, run, stage_runs, titles) if rights.payloads else {},
        "failures": _failures(request, run.pipeline, stage_runs, titles, is_shown=rights.payloads),
        "failures_paged": bool(request.GET.get("failures_after")),
        "events": _events(request, run, titles),
        "throughput": throughput.drawing(run, stage_runs),
        "timeline": timeline.drawing(run, found["stages"], stage_runs),
        "graph": timeline.graph(found["stages"], stage_runs),
        "is_failures_first": run.lifecycle == Lifecycle.FAILED,
        "may_retry_items": rights.operate and run.lifecycle in RETRYABLE,
        "downloads": _downloads(run, stage_runs) if rights.payloads and run.finished_at else [],
    }
    found["refresh_url"] = _refresh_url(request, found["outputs"])
    found["groups"], found["is_more_failed"] = failures.groups_of(run, stage_runs, titles, is_shown=rights.payloads)
    return render(request, "console/run/page.html", found)


def _refresh_url(request: HttpRequest, shown: dict[str, Any]) -> str:
    """The page as it is looked at: outputs of a stage that begins do not take the place of those that are read."""
    query = request.GET.copy()
    if shown.get("rows"):
        query["stage"] = shown["stage"]
    return f"{request.path}?{query.urlencode()}" if query else request.path


def _downloads(run: AutomationRun, stage_runs: list[StageRun]) -> list[tuple[str, str]]:
    """The result files of the last stage that has any."""
    made = [stage_run for stage_run in stage_runs if stage_run.position >= 0 and stage_run.started_at]
    return next((found for stage_run in reversed(made) if (found := results_of(run.pk, stage_run.slug))), [])


def _outputs(
    request: HttpRequest, run: AutomationRun, stage_runs: list[StageRun], titles: dict[str, str]
) -> dict[str, Any]:
    """Return a page of the outputs of one stage: the requested one, else the last one that has any."""
    made = [stage_run for stage_run in stage_runs if stage_run.position >= 0 and stage_run.started_at]
    asked = request.GET.get("stage")
    chosen = next((stage_run for stage_run in made if stage_run.slug == asked), None)
    after = _plain(request.GET.get("after", "")) if chosen else ""
    candidates = [chosen] if chosen else list(reversed(made))
    rows: list[WorkItem] = []
    for chosen in candidates:
        rows = list(WorkItem.objects.filter(made_by=chosen, key__gt=after).order_by("key")[: OUTPUTS + 1])
        if rows:
            break
    return {
        "stages": [(stage_run.slug, titles.get(stage_run.slug, stage_run.slug)) for stage_run in made],
        "stage": chosen.slug if chosen else "",
        "rows": [
            Output.of(run.pk, run.pipeline, chosen.slug if chosen else "", item.key, item.payload)
            for item in rows[:OUTPUTS]
        ],
        "results": results_of(run.pk, chosen.slug) if chosen else [],
        "next": rows[OUTPUTS - 1].key if len(rows) > OUTPUTS else "",
        "is_paged": bool(after),
    }


def _failures(
    request: HttpRequest, pipeline: str, stage_runs: list[StageRun], titles: dict[str, str], *, is_shown: bool
) -> dict[str, Any]:
    """Return a page of failed items by stage and key: the order of the index, so it is cheap however many there are."""
    found = ItemFailure.objects.filter(stage_run__in=stage_runs).order_by("stage_run_id", "key")
    stage, _, key = _plain(request.GET.get("failures_after", "")).partition("_")
    if (after := _number(stage)) is not None:
        found = found.filter(Q(stage_run_id__gt=after) | Q(stage_run_id=after, key__gt=key))
    rows = list(found[: PAGE_SIZE + 1])
    last = rows[PAGE_SIZE - 1] if len(rows) > PAGE_SIZE else None
    slugs = {stage_run.pk: stage_run.slug for stage_run in stage_runs}
    return {
        "rows": [
            {
                "stage": titles.get(slugs[row.stage_run_id], slugs[row.stage_run_id]),
                "item": payload_access.label_of(
                    pipeline, slugs[row.stage_run_id], row.payload, row.key, is_shown=is_shown
                ),
                "error": _last_line(row.error) if is_shown else payload_access.error_class(row.error),
                "detail": row.error if is_shown and "\n" in row.error.strip() else "",
                "attempts": row.attempts,
                "failed_at": row.failed_at,
            }
            for row in rows[:PAGE_SIZE]
        ],
        "next": f"{last.stage_run_id}_{last.key}" if last else "",
    }


def _number(text: str) -> int | None:
    """Parse an id from a URL; ``None`` if it is not a number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _plain(text: str) -> str:
    """Remove NUL from ``text``, which the database does not accept."""
    return text.replace("\0", "")


def _last_line(error: str) -> str:
    return error.strip().splitlines()[-1] if error.strip() else ""


def _events(request: HttpRequest, run: AutomationRun, titles: dict[str, str]) -> dict[str, Any]:
    """Return a page of the run's log, newest first; what belongs to one act stands together."""
    before = _number(request.GET.get("events_before", ""))
    events = ControlEvent.objects.of_scope(run.scope)
    if before is not None:
        events = events.filter(pk__lt=before)
    rows = workloads.events_for(request.user, events[: PAGE_SIZE + 1])
    return {
        "lines": log.entries_of(rows[:PAGE_SIZE], titles),
        "next": rows[PAGE_SIZE - 1].pk if len(rows) > PAGE_SIZE else None,
    }
