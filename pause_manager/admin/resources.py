"""Resources outside in the admin: to see, hold, release, and have asked again. Limits: the API and the shell."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from pause_manager import resources, scopes
from pause_manager.admin import actions
from pause_manager.admin.base import ReasonForm, SuperuserAdmin, actor_of, reason_of
from pause_manager.models import Resource


@admin.action(description="Hold selected resources")
def hold_resources(model_admin: Any, request: HttpRequest, queryset: QuerySet[Resource]) -> None:
    actions.hold(request, _scopes(queryset), "the selected resources are already held")


@admin.action(description="Release selected resources")
def release_resources(model_admin: Any, request: HttpRequest, queryset: QuerySet[Resource]) -> None:
    actions.release(request, _scopes(queryset))


@admin.action(description="Ask selected resources again now")
def probe_resources(model_admin: Any, request: HttpRequest, queryset: QuerySet[Resource]) -> None:
    for name in queryset.values_list("name", flat=True):
        if resources.ask_again(name, actor=actor_of(request), reason=reason_of(request)):
            messages.success(request, f"{name} is asked again now.")
        else:
            messages.warning(request, f"Cannot ask {name} again: it does not wait.")


def _scopes(queryset: QuerySet[Resource]) -> list[str]:
    return [scopes.resource(name) for name in queryset.values_list("name", flat=True)]


@admin.register(Resource)
class ResourceAdmin(SuperuserAdmin):
    list_display = ["name", "state", "max_at_once", "max_per_minute", "throttled_at", "throttled_by", "next_probe_at"]
    list_filter = ["state"]
    search_fields = ["name"]
    action_form = ReasonForm
    actions = [hold_resources, release_resources, probe_resources]
