"""``/api/v1/overrides/``: values that operators set for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import overrides, scopes, workloads
from pause_manager.api.fleet import FleetView
from pause_manager.api.http import errors, schema
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.permissions import may_operate
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.models import Override
from pause_manager.overrides import OverrideRefused, OverrideTargetUnknown

NUMBER = OpenApiParameter("override_id", str, OpenApiParameter.PATH, description="Number of an override.")
MOST_SECONDS = 366 * 24 * 3600


class OverrideQuery(StrictSerializer):
    """Which overrides are listed."""

    kind = serializers.CharField(required=False, max_length=40)
    target = serializers.CharField(required=False, max_length=200)
    ended = serializers.BooleanField(default=False, help_text="List those that have ended instead of those in force.")
    before = serializers.IntegerField(
        required=False, min_value=1, help_text="Only ids smaller than this, to continue a list."
    )
    limit = serializers.IntegerField(default=100, min_value=1, max_value=1_000)


@extend_schema_field(OpenApiTypes.ANY)
class ValueField(serializers.Field[Any, Any, Any, Any]):
    """A number, or the text of one such as ``35%``."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, bool) or not isinstance(data, (int, float, str)) or len(str(data)) > 100:
            raise serializers.ValidationError("expected a number, or text such as 35%.")
        return str(data)

    def to_representation(self, value: Any) -> Any:
        return value


class OverrideSerializer(serializers.ModelSerializer[Override]):
    """A value that is in force for a while."""

    value = ValueField()

    class Meta:
        model = Override
        fields: ClassVar = [
            "id",
            "kind",
            "target",
            "scope",
            "value",
            "reason",
            "actor",
            "created_at",
            "expires_at",
            "ended_at",
            "ended_by",
            "outcome",
        ]


class OverrideBodySerializer(StrictSerializer):
    """An override to set."""

    kind = serializers.CharField(
        max_length=40, help_text="Kind, such as `node_threshold`; the refusal of a wrong one lists all."
    )
    target = serializers.RegexField(
        r"^[^\x00\s]+$", max_length=200, help_text="Such as the name of the node or the id of the run."
    )
    value = ValueField()
    expires_in_seconds = serializers.IntegerField(
        min_value=1, max_value=MOST_SECONDS, help_text="By the database's clock."
    )
    reason = serializers.CharField(default="", allow_blank=True, max_length=500)


def _refused(error: OverrideTargetUnknown | OverrideRefused) -> Response:
    is_unknown = isinstance(error, OverrideTargetUnknown)
    code = status.HTTP_404_NOT_FOUND if is_unknown else status.HTTP_409_CONFLICT
    return errors.answer(code, error.code, str(error))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise OverrideTargetUnknown(f"Cannot end override {text[:40]!r}: expected its number.")
    return int(text)


class OverrideList(FleetView):
    """Overrides."""

    @extend_schema(
        operation_id="list_overrides",
        summary="List overrides, newest first",
        description="Operators of the fleet see all. Others see none of runs, and none of lanes of other accounts.",
        parameters=[OverrideQuery, schema.REQUEST_ID],
        responses=schema.answers({200: OverrideSerializer(many=True)}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request) -> Response:
        query = self.query(OverrideQuery)
        rows = Override.objects.filter(ended_at__isnull=not query["ended"]).order_by("-id")
        if not may_operate(request.user):
            rows = rows.exclude(scope__startswith=scopes.RUNS).exclude(workloads.hidden_scopes(request.user))
        for name in ("kind", "target"):
            if name in query:
                rows = rows.filter(**{name: query[name]})
        if "before" in query:
            rows = rows.filter(pk__lt=query["before"])
        return Response(OverrideSerializer(rows[: query["limit"]], many=True).data)

    @extend_schema(
        operation_id="set_override",
        summary="Set a value for a while",
        description="The old value comes back when the override ends. A second override of the same value replaces the "
        "first; at its end the value from before the first comes back.",
        parameters=schema.COMMAND,
        request=OverrideBodySerializer,
        responses=schema.answers({201: OverrideSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = self.body(OverrideBodySerializer)
        try:
            override = overrides.start(
                given["kind"],
                given["target"],
                given["value"],
                expires_in=timedelta(seconds=given["expires_in_seconds"]),
                actor=self.actor,
                reason=given["reason"],
            )
        except (OverrideTargetUnknown, OverrideRefused) as error:
            return _refused(error)
        return Response(OverrideSerializer(override).data, status=status.HTTP_201_CREATED)


class OverrideDetail(FleetView):
    """One override."""

    @extend_schema(
        operation_id="end_override",
        summary="End an override now",
        description="An override that has ended already is returned unchanged.",
        parameters=[NUMBER, *schema.COMMAND],
        responses=schema.answers({200: OverrideSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def delete(self, request: Request, override_id: str) -> Response:
        try:
            override = overrides.end(_number(override_id), actor=self.actor)
        except OverrideTargetUnknown as error:
            return _refused(error)
        return Response(OverrideSerializer(override).data)
