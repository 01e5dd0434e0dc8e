"""The audit trail and stored outcomes in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.html import format_html

from pause_manager import times
from pause_manager.admin import actions
from pause_manager.admin.base import SuperuserAdmin
from pause_manager.console import links
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
    list_display = ["when", "what", "subject", "actor", "channel"]
    list_filter = [ByAction, ByChannel, ByAge]
    ordering = ["-at", "-id"]
    search_fields = ["=scope", "=actor", "=request_id"]
    search_help_text = "An exact scope (run:<id>), actor (user:<name>) or request id."
    actions = [actions.download_csv, actions.download_jsonl]

    @admin.display(description="at", ordering="at")
    def when(self, event: ControlEvent) -> str:
        return times.written(event.at)

    @admin.display(description="what, and why", ordering="action")
    def what(self, event: ControlEvent) -> str:
        said = event.action.replace("_", " ")
        return format_html('{}<span class="second">{}</span>', said, event.reason[:300]) if event.reason else said

    @admin.display(description="scope", ordering="scope")
    def subject(self, event: ControlEvent) -> str:
        link = links.of(event.scope)
        return format_html('<a href="{}">{}</a>', link.url, link.title) if link.url else event.scope


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(SuperuserAdmin):
    list_display = ["key", "actor", "status", "created_at"]
    ordering = ["-created_at"]
