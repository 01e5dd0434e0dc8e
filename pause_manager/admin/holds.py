"""Holds in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html

from pause_manager import fleet, times
from pause_manager.admin import actions
from pause_manager.admin.base import ReasonForm, SuperuserAdmin, actor_of
from pause_manager.errors import PauseManagerError
from pause_manager.fleet import bulk_holds
from pause_manager.holds.fleet_state import FLEET
from pause_manager.models import SCOPES, Hold


class PlaceForm(forms.Form):
    """A new hold on any scope but a run, which is paused in the list of runs."""

    scope = forms.CharField(max_length=120, help_text=f"{SCOPES}.")
    mode = forms.ChoiceField(choices=Hold.Mode.choices, initial=Hold.Mode.DRAIN)
    reason = forms.CharField(max_length=500)
    hours = forms.FloatField(
        required=False, min_value=0.01, max_value=8_760, help_text="It ends by itself after these."
    )

    def placed(self, request: HttpRequest) -> bool:
        """Place it and say so; a refusal becomes an error of the form."""
        given = self.cleaned_data
        scope, hours = given["scope"].strip(), given["hours"]
        options: dict[str, Any] = {"mode": given["mode"], "reason": given["reason"], "actor": actor_of(request)}
        ends = None if hours is None else timedelta(hours=hours)
        try:
            if scope == FLEET:
                fleet.pause(**options, deadline=ends)
            else:
                bulk_holds.place([scope], **options, expires_in=ends)
        except PauseManagerError as refusal:
            self.add_error("scope", str(refusal))
            return False
        messages.success(request, f"Held: {scope}.")
        return True


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
    list_display = ["scope", "sort", "who", "created_at", "expires_at", "released"]
    list_filter = [IsActive, "kind", "mode"]
    search_fields = ["=scope"]
    search_help_text = f"An exact scope: {SCOPES}."
    action_form = ReasonForm
    actions = [actions.release_selected]

    @admin.display(description="kind", ordering="kind")
    def sort(self, hold: Hold) -> str:
        return f"{hold.kind}, {hold.mode}"

    @admin.display(description="by, and why", ordering="actor")
    def who(self, hold: Hold) -> str:
        return format_html('{}<span class="second">{}</span>', hold.actor, hold.reason[:300])

    @admin.display(description="released", ordering="released_at")
    def released(self, hold: Hold) -> str:
        if hold.released_at is None:
            return "in force"
        return format_html('{}<span class="second">{}</span>', times.written(hold.released_at), hold.released_by)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = PlaceForm(request.POST or None)
        if request.method == "POST" and form.is_valid() and form.placed(request):
            return redirect("admin:pause_manager_hold_changelist")
        context = {**self.admin_site.each_context(request), "title": "Hold", "form": form, "opts": self.opts}
        return TemplateResponse(request, "admin/pause_manager/hold/place.html", context)
