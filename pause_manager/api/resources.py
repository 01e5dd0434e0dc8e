"""``/api/v1/resources/``: resources outside that work uses. They are held and released as other scopes are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import resources
from pause_manager.api.fleet import FleetView
from pause_manager.api.http import schema
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.strict import ReasonSerializer, StrictSerializer
from pause_manager.errors import UnknownResource
from pause_manager.models import Hold, Resource
from pause_manager.resources import report
from pause_manager.resources.report import MOST_IN_LINE, ResourceReport
from pause_manager.resources.writer import MOST

NAME = OpenApiParameter("resource", str, OpenApiParameter.PATH, description="Name of a resource, such as `openai`.")


class ResourceHoldSerializer(serializers.Serializer[Any]):
    """A hold in force on a resource."""

    kind = serializers.CharField(help_text="Kind of the hold, such as `operator` or `throttled`.")
    mode = serializers.ChoiceField(choices=Hold.Mode.choices)
    reason = serializers.CharField()
    actor = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class ResourceSerializer(serializers.Serializer[Any]):
    """A resource outside: its state, its limits, what uses it and what waits for it."""

    name = serializers.CharField()
    state = serializers.ChoiceField(choices=Resource.State.choices)
    sentence = serializers.CharField(help_text="The same for people.")
    max_at_once = serializers.IntegerField(allow_null=True, help_text="Items and tasks at once; null: no limit.")
    max_per_minute = serializers.IntegerField(
        allow_null=True, help_text="Items and tasks that start in any 60 s; null: no limit."
    )
    permitted = serializers.IntegerField(
        allow_null=True, help_text='How many may use it at once after it said "too much"; null: no limit.'
    )
    in_use = serializers.IntegerField(help_text="Items and tasks in progress that use it.")
    waiting = serializers.IntegerField(help_text="Parked tasks that use it, and running stages with work and no loop.")
    throttled_at = serializers.DateTimeField(allow_null=True, help_text='When it said "too much" last.')
    throttled_by = serializers.CharField(help_text="The stage or task that was told so; empty if there is none.")
    next_probe_at = serializers.DateTimeField(allow_null=True, help_text="When it is asked again.")
    next_start_at = serializers.DateTimeField(
        allow_null=True, help_text="Next start that `max_per_minute` allows; null: now."
    )
    strikes = serializers.IntegerField(help_text="How many times in a row it said “too much”.")
    holds = ResourceHoldSerializer(many=True)


class WaiterSerializer(serializers.Serializer[Any]):
    """One piece of work that waits for a resource and for nothing else."""

    kind = serializers.ChoiceField(
        choices=["run", "agent", "task"],
        help_text="Each kind is a line of its own; `agent`: a run that agents work on.",
    )
    position = serializers.IntegerField(help_text="Position in the line of its kind; 1 is next.")
    priority = serializers.IntegerField()
    ref = serializers.CharField(help_text="Such as `run:<id>`; empty for what the caller may not see.")
    title = serializers.CharField(help_text="Pipeline and stage, or the task; empty for what the caller may not see.")


class LineQuery(StrictSerializer):
    """How much of the lines is told."""

    limit = serializers.IntegerField(default=MOST_IN_LINE, min_value=1, max_value=500, help_text="Rows of each kind.")


def _limit(help_text: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MOST, help_text=f"{help_text} Null removes the limit."
    )


class LimitsSerializer(ReasonSerializer):
    """Limits to set; what is left out stays."""

    max_at_once = _limit("Items and tasks that may use it at once.")
    max_per_minute = _limit("Items and tasks that may start in any 60 s.")


class ResourceList(FleetView):
    """Resources."""

    @extend_schema(
        operation_id="list_resources",
        summary="List the resources outside that work uses",
        description="Those that a stage or task declares, and those that are held, limited, or have said “too much”.",
        parameters=[schema.REQUEST_ID],
        responses=schema.answers({200: ResourceSerializer(many=True)}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request) -> Response:
        return Response(ResourceSerializer([asdict(one) for one in report.of_all()], many=True).data)


class ResourceDetail(FleetView):
    """One resource."""

    @extend_schema(
        operation_id="get_resource",
        summary="Get one resource",
        parameters=[NAME, schema.REQUEST_ID],
        responses=schema.answers({200: ResourceSerializer}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request, resource: str) -> Response:
        return Response(ResourceSerializer(asdict(_found(resource))).data)

    @extend_schema(
        operation_id="limit_resource",
        summary="Set or remove the limits of a resource",
        description="Applies to everything that starts afterwards. Nothing is interrupted: a lower limit is reached as "
        "work ends. A resource that nothing uses yet may be limited, too.",
        parameters=[NAME, *schema.COMMAND],
        request=LimitsSerializer,
        responses=schema.answers({200: ResourceSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def patch(self, request: Request, resource: str) -> Response:
        given = self.body(LimitsSerializer)
        reason = given.pop("reason")
        resources.set_limits(resource, given, actor=self.actor, reason=reason)
        return Response(ResourceSerializer(asdict(_found(resource))).data)


class ResourceLine(FleetView):
    """What waits."""

    @extend_schema(
        operation_id="list_resource_line",
        summary="List what waits for a resource, in order",
        description="The first of each kind: runs, runs that agents work on, and tasks. As one starts, the positions "
        "behind it fall by one. Not listed is what anything else keeps, such as a hold.",
        parameters=[NAME, LineQuery, schema.REQUEST_ID],
        responses=schema.answers({200: WaiterSerializer(many=True)}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request, resource: str) -> Response:
        query = self.query(LineQuery)
        found = report.line(_found(resource).name, request.user, query["limit"])
        return Response(WaiterSerializer([asdict(one) for one in found], many=True).data)


class ResourceProbe(FleetView):
    """The end of a wait."""

    @extend_schema(
        operation_id="probe_resource",
        summary="Have a resource that said “too much” asked again now",
        description="By one loop or task; the others follow step by step when it answers. Holds of operators stay.",
        parameters=[NAME, *schema.COMMAND],
        request=ReasonSerializer,
        responses=schema.answers({200: ResourceSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request, resource: str) -> Response:
        given = self.body(ReasonSerializer)
        _found(resource)
        resources.ask_again(resource, actor=self.actor, reason=given["reason"])
        return Response(ResourceSerializer(asdict(_found(resource))).data)


def _found(name: str) -> ResourceReport:
    try:
        return report.of(name)
    except UnknownResource as error:
        raise exceptions.NotFound(str(error), code=error.code) from None
