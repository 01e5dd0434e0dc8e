"""Overrides in the admin: to read, and to end."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from pause_manager.admin import actions
from pause_manager.admin.base import ReasonForm, SuperuserAdmin
from pause_manager.models import Override


class IsInForce(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "In force"), ("ended", "Ended")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() in ("active", "ended"):
            return queryset.filter(ended_at__isnull=self.value() == "active")
        return None


@admin.register(Override)
class OverrideAdmin(SuperuserAdmin):
    list_display = ["kind", "target", "value", "actor", "reason", "created_at", "expires_at", "ended_at", "outcome"]
    list_filter = [IsInForce, "kind"]
    search_fields = ["=target"]
    search_help_text = "An exact target, such as the name of a node or the id of a run."
    action_form = ReasonForm
    actions = [actions.end_overrides]
