"""``/api/v1/pause-windows/``: scopes that are held again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import workloads
from pause_manager.api.fleet import FleetView
from pause_manager.api.http import errors, schema
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.permissions import may_operate
from pause_manager.api.http.strict import ReasonSerializer, StrictSerializer
from pause_manager.errors import InvalidWindow, WindowRefused
from pause_manager.holds import windows
from pause_manager.models import Hold, PauseWindow
from pause_manager.models.clock import database_now
from pause_manager.models.windows import LONGEST_MINUTES
from pause_manager.recurrence import KINDS
from pause_manager.recurrence.rule import with_kind

CLOCK = ["%H:%M"]
NAME = OpenApiParameter("window", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of a pause window.")


class WindowFieldsSerializer(StrictSerializer):
    """When a scope is held. Each `kind` needs its own fields and takes none of the others."""

    scope = serializers.CharField(max_length=120, help_text="fleet, queue:x, pipeline:x, lane:x, node:x or resource:x.")
    mode = serializers.ChoiceField(choices=Hold.Mode.choices, required=False, help_text="drain, if left out.")
    kind = serializers.ChoiceField(choices=KINDS)
    at = serializers.TimeField(required=False, allow_null=True, input_formats=CLOCK, format=CLOCK[0])
    weekdays = serializers.CharField(required=False, allow_blank=True, max_length=60)
    day_of_month = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=31)
    cron = serializers.CharField(required=False, allow_blank=True, max_length=200)
    every_minutes = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=527_040)
    time_zone = serializers.CharField(required=False, max_length=64)
    duration_minutes = serializers.IntegerField(
        min_value=1,
        max_value=LONGEST_MINUTES,
        help_text="Minutes on the wall clock: 480 from 22:00 ends at 06:00, even in nights when clocks change.",
    )
    reason = serializers.CharField(max_length=500, help_text="Shown with every hold of the window.")
    is_enabled = serializers.BooleanField(required=False)


class NewWindowSerializer(WindowFieldsSerializer):
    """A pause window to create."""

    name = serializers.CharField(max_length=60, help_text="Small letters, digits, - and _.")


class WindowChangesSerializer(WindowFieldsSerializer):
    """Changes of a pause window: what is left out stays. With another `kind`, the fields of the old one are emptied."""

    scope = serializers.CharField(max_length=120, required=False)
    kind = serializers.ChoiceField(choices=KINDS, required=False)
    duration_minutes = serializers.IntegerField(min_value=1, max_value=LONGEST_MINUTES, required=False)
    reason = serializers.CharField(max_length=500, required=False)


class StretchSerializer(serializers.Serializer[Any]):
    """The current period of the pause window, or else the next one."""

    begins_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    is_open = serializers.BooleanField()


class WindowSerializer(serializers.Serializer[Any]):
    """A pause window."""

    name = serializers.CharField()
    scope = serializers.CharField()
    mode = serializers.ChoiceField(choices=Hold.Mode.choices)
    in_words = serializers.CharField()
    kind = serializers.ChoiceField(choices=KINDS)
    at = serializers.CharField(allow_null=True)
    weekdays = serializers.CharField()
    day_of_month = serializers.IntegerField(allow_null=True)
    cron = serializers.CharField()
    every_minutes = serializers.IntegerField(allow_null=True)
    time_zone = serializers.CharField()
    duration_minutes = serializers.IntegerField()
    reason = serializers.CharField()
    is_enabled = serializers.BooleanField()
    skipped_until = serializers.DateTimeField(allow_null=True)
    next = StretchSerializer(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class WindowNotFound(exceptions.NotFound):
    """There is no such pause window, or none that the caller may see."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Cannot find pause window {name[:64]!r}: there is none that you may see.")


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """As for every view; a refusal of a window is a conflict."""
    if isinstance(error, WindowRefused):
        return errors.answer(status.HTTP_409_CONFLICT, error.code, str(error))
    if isinstance(error, InvalidWindow):
        return errors.answer(status.HTTP_400_BAD_REQUEST, error.code, str(error))
    return errors.handle(error, context)


def shown(window: PauseWindow) -> dict[str, Any]:
    """A window for JSON."""
    now = database_now()
    found = windows.current_or_next(window, now) if window.is_enabled else None
    names = ("name", "scope", "mode", *PauseWindow.RULE, "duration_minutes", "reason", "is_enabled", "skipped_until")
    return {
        **{name: getattr(window, name) for name in (*names, "created_by", "created_at")},
        "at": window.at.strftime("%H:%M") if window.at else None,
        "in_words": windows.words(window),
        "next": {"begins_at": found[0], "ends_at": found[1], "is_open": found[0] <= now} if found else None,
    }


class WindowView(FleetView):
    """A view of pause windows."""

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return handle

    def visible(self) -> QuerySet[PauseWindow]:
        """The windows that the caller may see: not those of lanes of other accounts."""
        rows = PauseWindow.objects.order_by("name")
        return rows if may_operate(self.request.user) else rows.exclude(workloads.hidden_scopes(self.request.user))

    def find(self, name: str) -> PauseWindow:
        """Return the window of this name, or raise :class:`WindowNotFound`."""
        found = self.visible().filter(name=name).first() if "\0" not in name else None
        if found is None:
            raise WindowNotFound(name)
        return found


class WindowList(WindowView):
    """Pause windows."""

    @extend_schema(
        operation_id="list_pause_windows",
        summary="List pause windows",
        description="Operators of the fleet see all. Others see none on lanes of other accounts.",
        parameters=[schema.REQUEST_ID],
        responses=schema.answers({200: WindowSerializer(many=True)}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request) -> Response:
        return Response([shown(window) for window in self.visible()])

    @extend_schema(
        operation_id="create_pause_window",
        summary="Create a pause window",
        description="The scope is held at each occurrence, by a hold of the kind `window`. It neither changes nor ends "
        "operators' holds on the same scope.",
        parameters=schema.COMMAND,
        request=NewWindowSerializer,
        responses=schema.answers({201: WindowSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = self.body(NewWindowSerializer)
        return Response(shown(windows.create(given, actor=self.actor)), status=201)


class WindowDetail(WindowView):
    """One pause window."""

    @extend_schema(
        operation_id="show_pause_window",
        summary="Show a pause window",
        parameters=[NAME, schema.REQUEST_ID],
        responses=schema.answers({200: WindowSerializer}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request, window: str) -> Response:
        return Response(shown(self.find(window)))

    @extend_schema(
        operation_id="change_pause_window",
        summary="Change a pause window; its hold follows at once",
        parameters=[NAME, *schema.COMMAND],
        request=WindowChangesSerializer,
        responses=schema.answers({200: WindowSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def patch(self, request: Request, window: str) -> Response:
        found = self.find(window)
        given = with_kind(self.body(WindowChangesSerializer))
        return Response(shown(windows.change(found.name, given, actor=self.actor)))

    @extend_schema(
        operation_id="delete_pause_window",
        summary="Delete a pause window; its hold is released",
        parameters=[NAME, ReasonSerializer, *schema.COMMAND],
        responses=schema.answers({204: None}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def delete(self, request: Request, window: str) -> Response:
        given = self.query(ReasonSerializer)
        windows.delete(self.find(window).name, actor=self.actor, **given)
        return Response(status=204)


class WindowSkip(WindowView):
    """The end of a stretch before its time."""

    @extend_schema(
        operation_id="skip_pause_window",
        summary="End the stretch of a pause window that is open, or skip the next one",
        parameters=[NAME, *schema.COMMAND],
        request=ReasonSerializer,
        responses=schema.answers({200: WindowSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request, window: str) -> Response:
        found = self.find(window)
        windows.skip(found.name, actor=self.actor, **self.body(ReasonSerializer))
        return Response(shown(self.find(window)))
