"""Holds, events, nodes and kept outcomes: for superusers, since this app knows no accounts to limit them to."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from pause_manager.models import CapacitySample, ControlEvent, Hold, IdempotencyRecord, WorkerNode
from pause_manager.read_only import ReadOnlyAdmin


class SuperuserAdmin(ReadOnlyAdmin[Any]):
    """Read by superusers only."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)


class IsActive(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "In force"), ("released", "Released")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() in ("active", "released"):
            return queryset.filter(released_at__isnull=self.value() == "active")
        return None


@admin.register(Hold)
class HoldAdmin(SuperuserAdmin):
    list_display = [
        "scope",
        "kind",
        "mode",
        "actor",
        "reason",
        "created_at",
        "expires_at",
        "released_at",
        "released_by",
    ]
    list_filter = [IsActive, "kind", "mode"]
    search_fields = ["=scope"]
    search_help_text = "An exact scope: fleet, queue:x, pipeline:x, lane:x, run:x or node:x."


@admin.register(ControlEvent)
class ControlEventAdmin(SuperuserAdmin):
    list_display = ["at", "action", "scope", "actor", "channel", "reason"]
    search_fields = ["=scope"]
    search_help_text = "An exact scope, such as run:<id>."


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(SuperuserAdmin):
    list_display = ["key", "actor", "status", "created_at"]
    ordering = ["-created_at"]


@admin.register(WorkerNode)
class WorkerNodeAdmin(SuperuserAdmin):
    list_display = ["name", "last_seen_at", "is_consuming", "pause_below", "first_seen_at"]
    list_filter = ["is_consuming"]
    search_fields = ["name"]


@admin.register(CapacitySample)
class CapacitySampleAdmin(SuperuserAdmin):
    list_display = [
        "minute",
        "node",
        "cores",
        "own_cores",
        "foreign_cores",
        "foreign_cores_max",
        "free_memory_mib_min",
        "samples",
    ]
    list_select_related = ["node"]
    search_fields = ["=node__name"]
    search_help_text = "The exact name of a node."
