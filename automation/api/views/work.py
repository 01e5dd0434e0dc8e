"""What a run is made of, a page at a time: items, failures, events; and the pipelines it can be a run of."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from automation.api import runs, schema
from automation.api.serializers.errors import READ, answers
from automation.api.serializers.work import (
    EventSerializer,
    FailureSerializer,
    ItemSerializer,
    PipelineSerializer,
    pipeline_as_dict,
)
from automation.api.views.base import AutomationView
from automation.models import AutomationRun, StageRun
from automation.models.work import ItemFailure, WorkItem
from automation.pipeline import all_pipelines
from automation.reports import payload_access
from pause_manager import workloads_audit_readers
from pause_manager.api import pagination
from pause_manager.api.pagination import page_of
from pause_manager.models import ControlEvent


class ItemQuery(pagination.PageQuery):
    stage = serializers.CharField(max_length=50, help_text="Slug of the stage that made them; `input` is the input.")


class FailureQuery(pagination.PageQuery):
    stage = serializers.CharField(max_length=50, required=False, help_text="Slug of the stage they failed in.")


class EventQuery(pagination.PageQuery):
    action = serializers.CharField(max_length=40, required=False, help_text="Only these, e.g. `hold_placed`.")


class RunItems(AutomationView):
    """The outputs of one stage."""

    @extend_schema(
        operation_id="list_items",
        summary="List the outputs of a stage, in input order",
        parameters=[schema.RUN_ID, ItemQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("ItemPage", ItemSerializer)}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = runs.find(request.user, run_id)
        query = self.query(ItemQuery)
        rows = WorkItem.objects.filter(made_by=find_stage(run, query["stage"]))
        return Response(pagination.page(request, rows, ("key",), query, partial(_shown, request, ItemSerializer)))


class RunFailures(AutomationView):
    """The items that were given up."""

    @extend_schema(
        operation_id="list_failures",
        summary="List the items that failed, by stage and key",
        parameters=[schema.RUN_ID, FailureQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("FailurePage", FailureSerializer)}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = runs.find(request.user, run_id)
        query = self.query(FailureQuery)
        stages = [find_stage(run, query["stage"])] if "stage" in query else list(run.stages.all())
        rows = ItemFailure.objects.filter(stage_run__in=[stage.pk for stage in stages]).select_related("stage_run")
        return Response(
            pagination.page(request, rows, ("stage_run_id", "key"), query, partial(_shown, request, FailureSerializer))
        )


class RunEvents(AutomationView):
    """The audit trail of the run."""

    @extend_schema(
        operation_id="list_events",
        summary="List what was done to the run, newest first",
        parameters=[schema.RUN_ID, EventQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("EventPage", EventSerializer)}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = runs.find(request.user, run_id)
        query = self.query(EventQuery)
        rows = ControlEvent.objects.filter(scope=run.scope)
        if "action" in query:
            rows = rows.filter(action=query["action"])
        return Response(pagination.page(request, rows, ("-id",), query, lambda found: _events_shown(request, found)))


class PipelineList(AutomationView):
    """What runs can be made of."""

    @extend_schema(
        operation_id="list_pipelines",
        summary="List the pipelines with their stages and parameters",
        parameters=[schema.REQUEST_ID],
        responses=answers({200: inline_serializer("Pipelines", {"results": PipelineSerializer(many=True)})}, *READ),
    )
    def get(self, request: Request) -> Response:
        return Response({"results": [pipeline_as_dict(pipeline) for pipeline in all_pipelines()]})


def _shown(request: Request, serializer: type[Serializer[Any]], rows: list[Any]) -> list[dict[str, Any]]:
    """``rows`` with what they contain, if the caller may see it."""
    return list(serializer(rows, many=True, context={"is_shown": payload_access.may_view(request.user)}).data)


def _events_shown(request: Request, events: list[ControlEvent]) -> list[dict[str, Any]]:
    return list(EventSerializer(workloads_audit_readers.as_told_to(request.user, events), many=True).data)


def find_stage(run: AutomationRun, slug: str) -> StageRun:
    """The stage of ``run``, or a ``ValidationError`` naming those it has."""
    stages = {stage.slug: stage for stage in run.stages.all()}
    if slug not in stages:
        raise serializers.ValidationError({"stage": [f"expected one of {', '.join(stages)}, got: {slug}"]})
    return stages[slug]
