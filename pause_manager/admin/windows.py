"""Pause windows in the admin, for superusers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from pause_manager import times
from pause_manager.admin.base import ReasonForm, SuperuserAdmin, actor_of, reason_of
from pause_manager.errors import PauseManagerError
from pause_manager.holds import windows
from pause_manager.models import PauseWindow


@admin.action(description="End what is open of selected windows, or skip the next time")
def skip_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseWindow]) -> None:
    for name in queryset.values_list("name", flat=True):
        try:
            begins, ends = windows.skip(name, actor=actor_of(request), reason=reason_of(request))
        except PauseManagerError as refusal:
            messages.warning(request, str(refusal))
        else:
            messages.success(request, f"Skipped {name} from {times.written(begins)} to {times.written(ends)}.")


@admin.register(PauseWindow)
class PauseWindowAdmin(SuperuserAdmin):
    list_display = ["name", "scope", "mode", "in_words", "is_enabled", "reason"]
    list_filter = ["is_enabled", "mode"]
    search_fields = ["name", "=scope"]
    fields = windows.FIELDS
    action_form = ReasonForm
    actions = [skip_selected]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: PauseWindow | None = None) -> list[str]:
        return ["name"] if obj is not None else []

    def save_model(self, request: HttpRequest, obj: PauseWindow, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in windows.FIELDS if name in form.cleaned_data}
        if change:
            windows.change(obj.name, {name: given[name] for name in form.changed_data}, actor=actor_of(request))
            return
        obj.pk = windows.create(given, actor=actor_of(request)).pk

    def delete_model(self, request: HttpRequest, obj: PauseWindow) -> None:
        windows.delete(obj.name, actor=actor_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PauseWindow]) -> None:
        for name in queryset.values_list("name", flat=True):
            windows.delete(name, actor=actor_of(request))

    @admin.display(description="when")
    def in_words(self, window: PauseWindow) -> str:
        """Its rule."""
        return windows.words(window)
