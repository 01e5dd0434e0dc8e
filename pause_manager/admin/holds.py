"""Holds in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from pause_manager.admin import actions
from pause_manager.admin.base import ReasonForm, SuperuserAdmin
from pause_manager.models import SCOPES, Hold


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
    search_help_text = f"An exact scope: {SCOPES}."
    action_form = ReasonForm
    actions = [actions.release_selected]
