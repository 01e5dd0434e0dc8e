"""What a run is made of, a page at a time: items, failures, events; and the pipelines it can be a run of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.runs import selection
from automation.api.schema import READ, answers
from automation.api.work.serializers import (
    EventSerializer,
    FailureSerializer,
    ItemSerializer,
    PipelineSerializer,
    pipeline_as_dict,
)
from automation.models import AutomationRun, StageRun
from automation.models.work import ItemFailure, WorkItem
from automation.pipeline import all_pipelines
from automation.reports import payload_access
from pause_manager import workloads
from pause_manager.api.http import pagination
from pause_manager.api.http.pagination import page_of
from pause_manager.models import ControlEvent


class ItemQuery(pagination.PageQuery):
    stage = serializers.CharField(max_length=50, help_text="Slug of the stage that made them; `input` is the input.")


class FailureQuery(pagination.PageQuery):
    stage = serializers.CharField(max_length=50, required=False, help_text="Slug of the stage they failed in.")


class EventQuery(pagination.PageQuery):
    action = serializers.CharField(max_length=40, required=False, help_text="Only these, e.g. `hold_placed`.")


Rows = Callable[[AutomationRun, dict[str, Any]], QuerySet[Any]]
Show = Callable[[Request, list[Any]], list[dict[str, Any]]]


def page_view(
    name: str,
    summary: str,
    description: str,
    *,
    page: tuple[str, type[Serializer[Any]]],
    query: type[pagination.PageQuery],
    order: Sequence[str],
    rows: Rows,
    show: Show,
) -> type[AutomationView]:
    """Return the endpoint that lists ``rows`` of the run in its path, a page at a time."""

    class RunPart(AutomationView):
        @extend_schema(
            operation_id=name,
            summary=summary,
            description=description,
            parameters=[schema.RUN_ID, query, schema.REQUEST_ID],
            responses=answers({200: page_of(*page)}, *READ),
        )
        def get(self, request: Request, run_id: str) -> Response:
            run = selection.find(request.user, run_id)
            given = self.query(query)
            return Response(pagination.page(request, rows(run, given), order, given, partial(show, request)))

    return RunPart


def _items(run: AutomationRun, query: dict[str, Any]) -> QuerySet[Any]:
    return WorkItem.objects.filter(made_by=find_stage(run, query["stage"]))


def _failures(run: AutomationRun, query: dict[str, Any]) -> QuerySet[Any]:
    stages = [find_stage(run, query["stage"])] if "stage" in query else list(run.stages.all())
    return ItemFailure.objects.filter(stage_run__in=[stage.pk for stage in stages]).select_related("stage_run")


def _events(run: AutomationRun, query: dict[str, Any]) -> QuerySet[Any]:
    events = ControlEvent.objects.filter(scope=run.scope)
    return events.filter(action=query["action"]) if "action" in query else events


def _shown(serializer: type[Serializer[Any]], request: Request, rows: list[Any]) -> list[dict[str, Any]]:
    """``rows`` with their content, if the caller may see it."""
    return list(serializer(rows, many=True, context={"is_shown": payload_access.may_view(request.user)}).data)


def _events_shown(request: Request, events: list[ControlEvent]) -> list[dict[str, Any]]:
    return list(EventSerializer(workloads.events_for(request.user, events), many=True).data)


def find_stage(run: AutomationRun, slug: str) -> StageRun:
    """Return the stage of ``run``, or raise ``ValidationError`` naming the stages it has."""
    stages = {stage.slug: stage for stage in run.stages.all()}
    if slug not in stages:
        raise serializers.ValidationError({"stage": [f"expected one of {', '.join(stages)}, got: {slug}"]})
    return stages[slug]


RunItems = page_view(
    "list_items",
    "List the outputs of a stage, in input order",
    "The outputs of one stage.",
    page=("ItemPage", ItemSerializer),
    query=ItemQuery,
    order=("key",),
    rows=_items,
    show=partial(_shown, ItemSerializer),
)
RunFailures = page_view(
    "list_failures",
    "List the items that failed, by stage and key",
    "The items that were given up.",
    page=("FailurePage", FailureSerializer),
    query=FailureQuery,
    order=("stage_run_id", "key"),
    rows=_failures,
    show=partial(_shown, FailureSerializer),
)
RunEvents = page_view(
    "list_events",
    "List what was done to the run, newest first",
    "The audit trail of the run.",
    page=("EventPage", EventSerializer),
    query=EventQuery,
    order=("-id",),
    rows=_events,
    show=_events_shown,
)


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
