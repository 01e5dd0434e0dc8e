"""The audit trail and stored outcomes in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from pause_manager.admin import actions
from pause_manager.admin.base import SuperuserAdmin
from pause_manager.models import ControlEvent, IdempotencyRecord


class ByUsedValue(admin.SimpleListFilter):
    """The values that there are, without a walk over all rows."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value) for value in ControlEvent.objects.values_used(self.parameter_name or "")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else None


class ByAction(ByUsedValue):
    title = parameter_name = "action"


class ByChannel(ByUsedValue):
    title = parameter_name = "channel"


class ByAge(admin.SimpleListFilter):
    title = "age"
    parameter_name = "hours"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "The last hour"), ("24", "The last day"), ("168", "The last week"), ("720", "The last 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        hours = self.value() or ""
        known = {value for value, _ in self.lookup_choices}
        return queryset.filter(at__gte=Now() - timedelta(hours=int(hours))) if hours in known else None


@admin.register(ControlEvent)
class ControlEventAdmin(SuperuserAdmin):
    list_display = ["at", "action", "scope", "actor", "channel", "reason"]
    list_filter = [ByAction, ByChannel, ByAge]
    ordering = ["-at", "-id"]
    search_fields = ["=scope", "=actor", "=request_id"]
    search_help_text = "An exact scope (run:<id>), actor (user:<name>) or request id."
    actions = [actions.download_csv, actions.download_jsonl]


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(SuperuserAdmin):
    list_display = ["key", "actor", "status", "created_at"]
    ordering = ["-created_at"]
