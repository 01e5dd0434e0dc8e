"""``/api/v1/holds/``: operators' holds on queues, pipelines, lanes, nodes and resources."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import workloads
from pause_manager.api.fleet import FleetView
from pause_manager.api.http import schema
from pause_manager.api.http.idempotency import idempotent, key_of
from pause_manager.api.http.permissions import may_operate
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.fleet import bulk_holds
from pause_manager.models import Hold
from pause_manager.scopes import RUNS

MOST_SCOPES, MOST_SHOWN = 1_000, 1_000
_ENDS = [Hold.OnExpiry.RESUME, Hold.OnExpiry.KEEP, Hold.OnExpiry.QUIESCE]


class HoldQuery(StrictSerializer):
    """Which holds are listed."""

    scope = serializers.CharField(required=False, max_length=120, help_text="A scope, or all of a sort: `node:*`.")
    kind = serializers.ChoiceField(required=False, choices=Hold.Kind.values)
    released = serializers.BooleanField(
        default=False, help_text="List those that have ended instead of those in force."
    )
    before = serializers.IntegerField(
        required=False, min_value=1, help_text="Only ids smaller than this, to continue a list."
    )
    limit = serializers.IntegerField(default=100, min_value=1, max_value=MOST_SHOWN)


class HoldSerializer(serializers.ModelSerializer[Hold]):
    """What stops a scope, and why."""

    class Meta:
        model = Hold
        fields: ClassVar = [
            "id",
            "scope",
            "kind",
            "mode",
            "reason",
            "actor",
            "created_at",
            "expires_at",
            "on_expiry",
            "released_at",
            "released_by",
            "release_reason",
        ]


def _scopes() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.RegexField(r"^[^\x00\s]+$", max_length=120), min_length=1, max_length=MOST_SCOPES
    )


class PlaceHoldsSerializer(StrictSerializer):
    """Holds to place, or to give another mode, reason or end."""

    scopes = _scopes()
    mode = serializers.ChoiceField(choices=Hold.Mode.choices, default=Hold.Mode.DRAIN)
    reason = serializers.CharField(default="", allow_blank=True, max_length=500)
    expires_in_seconds = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=366 * 24 * 3600, help_text="By the database's clock."
    )
    on_expiry = serializers.ChoiceField(choices=[str(end) for end in _ENDS], default=str(Hold.OnExpiry.RESUME))


class ReleaseSerializer(StrictSerializer):
    """Holds to release."""

    scopes = _scopes()
    reason = serializers.CharField(default="", allow_blank=True, max_length=500)


def _texts() -> serializers.ListField:
    return serializers.ListField(child=serializers.CharField())


PlacedSerializer = inline_serializer("PlacedHolds", {"placed": _texts(), "altered": _texts(), "unchanged": _texts()})
ReleasedSerializer = inline_serializer("ReleasedHolds", {"released": _texts(), "not_held": _texts()})


class HoldList(FleetView):
    """Holds."""

    @extend_schema(
        operation_id="list_holds",
        summary="List holds, newest first",
        description="Operators of the fleet see all. Others see none on runs, and none on lanes of other accounts.",
        parameters=[HoldQuery, schema.REQUEST_ID],
        responses=schema.answers({200: HoldSerializer(many=True)}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request) -> Response:
        query = self.query(HoldQuery)
        rows = Hold.objects.filter(released_at__isnull=not query["released"]).order_by("-id")
        if not may_operate(request.user):
            rows = rows.exclude(scope__startswith=RUNS).exclude(workloads.hidden_scopes(request.user))
        if "kind" in query:
            rows = rows.filter(kind=query["kind"])
        if "before" in query:
            rows = rows.filter(pk__lt=query["before"])
        if scope := query.get("scope", ""):
            is_sort = scope.endswith(f":{bulk_holds.ALL}")
            rows = rows.filter(scope__startswith=scope[:-1]) if is_sort else rows.filter(scope=scope)
        return Response(HoldSerializer(rows[: query["limit"]], many=True).data)

    @extend_schema(
        operation_id="place_holds",
        summary="Hold queues, pipelines, lanes, nodes or resources",
        description="All or nothing. `node:*` means every known node, `queue:*` every queue that a live worker serves. "
        "The fleet and runs have endpoints of their own.",
        parameters=schema.COMMAND,
        request=PlaceHoldsSerializer,
        responses=schema.answers({200: PlacedSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = self.body(PlaceHoldsSerializer)
        seconds = given.get("expires_in_seconds")
        outcome = bulk_holds.place(
            given["scopes"],
            mode=given["mode"],
            actor=self.actor,
            reason=given["reason"],
            expires_in=None if seconds is None else timedelta(seconds=seconds),
            on_expiry=given["on_expiry"],
            idempotency_key=key_of(self, request) or "",
        )
        return Response(asdict(outcome))


class HoldRelease(FleetView):
    """The end of holds."""

    @extend_schema(
        operation_id="release_holds",
        summary="Release operators' holds on queues, pipelines, lanes, nodes or resources",
        description="Holds of other kinds stay in force. `lane:*` means every lane that an operator holds, and so on.",
        parameters=schema.COMMAND,
        request=ReleaseSerializer,
        responses=schema.answers({200: ReleasedSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given: dict[str, Any] = self.body(ReleaseSerializer)
        released, not_held = bulk_holds.release(given["scopes"], actor=self.actor, reason=given["reason"])
        return Response({"released": released, "not_held": not_held})
