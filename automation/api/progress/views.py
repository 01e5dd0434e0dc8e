"""Progress, stages, and the reasons why a run waits."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.progress.serializers import ExplanationSerializer, ProgressSerializer
from automation.api.runs import selection
from automation.api.schema import READ, answers
from automation.api.work.serializers import StageRunSerializer
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.pipeline import definition
from automation.reports import explanation, payload_access, progress


class RunProgress(AutomationView):
    """Totals, rates and estimates of a run."""

    @extend_schema(
        operation_id="show_progress",
        summary="Show how far a run is",
        parameters=[schema.RUN_ID, schema.REQUEST_ID],
        responses=answers({200: ProgressSerializer}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = selection.find(request.user, run_id)
        snapshot = progress.snapshot(run)
        return Response(ProgressSerializer(snapshot).data)


class RunStages(AutomationView):
    """The stages of a run."""

    @extend_schema(
        operation_id="list_stages",
        summary="List the stages of a run, in order, as a graph with live states",
        parameters=[schema.RUN_ID, schema.REQUEST_ID],
        responses=answers({200: inline_serializer("Stages", {"results": StageRunSerializer(many=True)})}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = selection.find(request.user, run_id)
        is_open = Q(slices__finished_at__isnull=True)
        rows: Any = run.stages.filter(position__gte=0).annotate(
            slice_count=Count("slices"),
            open_slices=Count("slices", filter=is_open),
            leased_slices=Count("slices", filter=is_open & Q(slices__lease_token__isnull=False)),
        )
        known = {stage["slug"]: stage for stage in progress.snapshot(run)["stages"]}
        rows = list(rows.order_by("position"))
        unfinished = {row.slug for row in rows if row.lifecycle != Lifecycle.COMPLETED}
        after = {row.slug: list(definition.of(row).sources) if row.definition else [] for row in rows}
        found = [
            {
                **known[row.slug],
                "position": row.position,
                "after": after[row.slug],
                "waits_for": [slug for slug in after[row.slug] if slug in unfinished],
                "lifecycle": row.lifecycle,
                "started_at": row.started_at,
                "finished_at": row.finished_at,
                "slices": row.slice_count,
                "open_slices": row.open_slices,
                "leased_slices": row.leased_slices,
            }
            for row in rows
        ]
        return Response({"results": StageRunSerializer(found, many=True).data})


class RunExplanation(AutomationView):
    """Why a run waits."""

    @extend_schema(
        operation_id="explain_run",
        summary="List every reason why a run may not proceed",
        parameters=[schema.RUN_ID, schema.REQUEST_ID],
        responses=answers({200: ExplanationSerializer}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = selection.find(request.user, run_id)
        explained = explanation.of_run(run)
        reasons = list(explained.reasons)
        if not payload_access.may_view(request.user):
            reasons = payload_access.without_texts(reasons)
        found = {
            "status": selection.shown_status(run),
            "may_proceed": explained.may_start,
            "may_start": explained.may_start,
            "position": explained.position,
            "expected_start": explained.expected_start,
            "reasons": reasons,
            "will_start": will_start(run),
        }
        return Response(ExplanationSerializer(found).data)


def will_start(run: AutomationRun) -> list[dict[str, Any]]:
    """The stages, and how many items of each, that start when nothing keeps ``run``."""
    if run.lifecycle in TERMINAL or run.cancel_requested_at is not None:
        return []
    if run.lifecycle == Lifecycle.PENDING:
        defined = run.stages.filter(position__gte=0, definition__isnull=False).order_by("position")
        stages = [(stage_run.slug, definition.of(stage_run)) for stage_run in defined]
        first = [(slug, stage.title) for slug, stage in stages if not stage.after]
        return [{"stage": slug, "title": title, "items": run.total_items} for slug, title in first]
    snapshot = progress.snapshot(run)
    at_work: dict[str, int] = {}
    for lease in snapshot["in_flight"]:
        at_work[lease["stage"]] = at_work.get(lease["stage"], 0) + bool(lease["items"])
    running = set(run.stages.filter(lifecycle=Lifecycle.RUNNING).values_list("slug", flat=True))
    return [
        {
            "stage": stage["slug"],
            "title": stage["title"],
            "items": max(0, stage["remaining_count"] - at_work.get(stage["slug"], 0)),
        }
        for stage in snapshot["stages"]
        if stage["slug"] in running
    ]
