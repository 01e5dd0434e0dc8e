"""The audit trail over HTTP: pages and downloads of the events that the caller may read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pause_manager import workloads
from pause_manager.api.http import pagination
from pause_manager.api.http.base import ControlView
from pause_manager.api.http.pagination import page_of
from pause_manager.api.http.schema import READS, REQUEST_ID, answers
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.models import ControlEvent, ControlEventQuerySet
from pause_manager.observability import audit_export

NEWEST_FIRST = ("-at", "-id")

FILES: dict[Any, Any] = {(200, media): OpenApiTypes.BINARY for _, media in audit_export.ENCODERS.values()}


class EventFilter(serializers.Serializer[Any]):
    """Which events; all that are given must fit."""

    scope = serializers.CharField(max_length=120, required=False, help_text="Exactly, such as `run:<id>` or `fleet`.")
    action = serializers.CharField(max_length=40, required=False, help_text="Such as `hold_placed`.")
    actor = serializers.CharField(max_length=160, required=False, help_text="Such as `user:alice` or `capacity`.")
    channel = serializers.CharField(max_length=20, required=False, help_text="Such as `api`, `admin` or `cli`.")
    request_id = serializers.CharField(max_length=100, required=False)
    since = serializers.DateTimeField(required=False, help_text="At or after this time.")
    until = serializers.DateTimeField(required=False, help_text="Before this time.")


class EventQuery(EventFilter, pagination.PageQuery):
    """A page of them."""


class ExportQuery(EventFilter, StrictSerializer):
    """All of them."""

    type = serializers.ChoiceField(choices=sorted(audit_export.ENCODERS), default="jsonl", help_text="Of the file.")


class ControlEventSerializer(serializers.ModelSerializer[ControlEvent]):
    """What was done to a scope, by whom, through which channel and why."""

    details = serializers.DictField()
    before = serializers.DictField(allow_null=True, help_text="The values before the change; null if there were none.")
    after = serializers.DictField(allow_null=True, help_text="The values after the change; null if nothing is left.")

    class Meta:
        model = ControlEvent
        fields: ClassVar = list(audit_export.COLUMNS)
        read_only_fields = fields


class MayReadEvents(BasePermission):
    """Those whose events there are: all of them, or those of their own."""

    message = f"Cannot show events: it needs the permission {workloads.READ_ALL_EVENTS}, or one to view runs."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return workloads.visible_events(request.user) is not None


class AuditView(ControlView):
    """A view over events."""

    permission_classes = [MayReadEvents]

    def events(self, query: Mapping[str, Any]) -> ControlEventQuerySet:
        """The events that the caller may read and that ``query`` asks for."""
        visible = workloads.visible_events(self.request.user)
        return audit_export.narrowed(ControlEvent.objects.none() if visible is None else visible, query)

    def query(self, serializer: Callable[..., serializers.Serializer[Any]]) -> dict[str, Any]:
        """The query parameters as ``serializer`` takes them, else a ``ValidationError``."""
        given = serializer(data=self.request.query_params)
        given.is_valid(raise_exception=True)
        found: dict[str, Any] = given.validated_data
        return found


class AnyType(DefaultContentNegotiation):
    """A download is of the type that was asked for by name, whatever the caller says it accepts."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class Audit(AuditView):
    """The audit trail."""

    @extend_schema(
        operation_id="list_audit",
        summary="List what was done, by whom and why, newest first",
        description="Members see the events of runs of their accounts; who may view events sees all.",
        parameters=[EventQuery, REQUEST_ID],
        responses=answers({200: page_of("AuditPage", ControlEventSerializer)}, *READS, 404),
    )
    def get(self, request: Request) -> Response:
        query = self.query(EventQuery)
        return Response(
            pagination.page(request, self.events(query), NEWEST_FIRST, query, partial(_shown, request.user))
        )


class AuditExport(AuditView):
    """The audit trail as a file."""

    content_negotiation_class = AnyType

    @extend_schema(
        operation_id="export_audit",
        summary="Download what was done as CSV or JSON lines, newest first",
        description="Sent as it is read. In CSV a text that a spreadsheet would take for a formula starts with an "
        "apostrophe.",
        parameters=[ExportQuery, REQUEST_ID],
        responses=answers(FILES, *READS, 404),
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        query = self.query(ExportQuery)
        return audit_export.exported(request, self.events(query), query["type"])


def _shown(user: Any, events: list[ControlEvent]) -> list[dict[str, Any]]:
    return list(ControlEventSerializer(workloads.events_for(user, events), many=True).data)
