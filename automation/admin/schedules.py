"""Schedules in the admin: added, changed, paused, skipped and run now; their occurrences are read-only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import ForeignKey, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from automation.admin.base import AccountScopedAdmin, StateAdmin, list_of
from automation.errors import AutomationError
from automation.models import Schedule, ScheduleOccurrence, Site
from automation.pipeline import all_pipelines
from automation.schedules import definitions, report, starting
from pause_manager.admin.base import ReasonForm, actor_of, reason_of


class ScheduleForm(forms.ModelForm[Schedule]):
    """Checked as in every other door."""

    pipeline = forms.ChoiceField(choices=lambda: [(one.slug, one.title) for one in all_pipelines()])

    class Meta:
        model = Schedule
        fields = ("site", *definitions.FIELDS)

    def clean(self) -> dict[str, Any] | None:
        """What a run would refuse; the columns are judged by the model."""
        cleaned = super().clean()
        if cleaned is not None and not self.errors:
            cleaned["params"] = cleaned.get("params") or {}
            cleaned["pacing"] = cleaned.get("pacing") or {}
            given = {name: cleaned[name] for name in ("pipeline", "params", "pacing", "items")}
            try:
                definitions.check_input(Schedule(**given))
            except AutomationError as error:
                raise forms.ValidationError(str(error)) from None
        return cleaned


def _each(request: HttpRequest, rows: QuerySet[Schedule], verb: Callable[[int], object], done: str) -> None:
    for schedule in rows.select_related("site"):
        try:
            verb(schedule.pk)
        except AutomationError as refusal:
            messages.warning(request, str(refusal))
        else:
            messages.success(request, f"{done} {schedule}.")


@admin.action(description="Pause selected schedules", permissions=["change"])
def pause_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
    who: dict[str, Any] = {"actor": actor_of(request), "reason": reason_of(request)}
    _each(request, queryset, lambda pk: definitions.pause(pk, **who), "Paused")


@admin.action(description="Resume selected schedules", permissions=["change"])
def resume_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
    who: dict[str, Any] = {"actor": actor_of(request), "reason": reason_of(request)}
    _each(request, queryset, lambda pk: definitions.resume(pk, **who), "Resumed")


@admin.action(description="Skip the next occurrence of selected schedules", permissions=["change"])
def skip_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
    who: dict[str, Any] = {"actor": actor_of(request), "reason": reason_of(request)}
    _each(request, queryset, lambda pk: definitions.skip(pk, **who), "Skipped the next occurrence of")


@admin.action(description="Run selected schedules now", permissions=["operate"])
def run_selected_now(model_admin: Any, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
    who: dict[str, Any] = {"actor": actor_of(request), "reason": reason_of(request)}
    _each(request, queryset, lambda pk: starting.run_now(pk, **who), "Started a run of")


@admin.register(Schedule)
class ScheduleAdmin(AccountScopedAdmin):
    to_account = "site__account__"
    form = ScheduleForm
    list_display = ["name", "site", "pipeline", "in_words", "state", "next_due_at", "is_enabled"]
    list_select_related = ["site__account"]
    list_filter = ["is_enabled", "kind"]
    search_fields = ["name", "site__slug"]
    readonly_fields = ["state", "coming", "occurrences_link", "paused_by", "pause_reason", "paused_until", "created_by"]
    action_form = ReasonForm
    actions = [pause_selected, resume_selected, skip_selected, run_selected_now]

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> list[str]:
        return ["site", *self.readonly_fields] if obj is not None else []

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        if db_field.related_model is Site:
            kwargs["queryset"] = Site.objects.visible_to(request.user).taking_runs()
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may start runs."""
        return bool(request.user.has_perm("automation.operate_automationrun"))

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """The event is written with the row."""
        return admin.ModelAdmin.construct_change_message(self, request, form, formsets, add)

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in definitions.FIELDS if name in form.cleaned_data}
        if change:
            definitions.change(obj.pk, {name: given[name] for name in form.changed_data}, actor=actor_of(request))
            return
        obj.pk = definitions.create(form.cleaned_data["site"], given, actor=actor_of(request)).pk

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its occurrences, which nobody may delete by themselves, go with it."""
        found, counts, needed, kept = super().get_deleted_objects(objs, request)
        return found, counts, set(needed) - {str(ScheduleOccurrence._meta.verbose_name)}, kept

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        definitions.delete(obj.pk, actor=actor_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for pk in queryset.values_list("pk", flat=True):
            definitions.delete(pk, actor=actor_of(request))

    @admin.display(description="when")
    def in_words(self, schedule: Schedule) -> str:
        """Its rule."""
        return schedule.rule.words()

    @admin.display
    def state(self, schedule: Schedule) -> str:
        """What it is now."""
        return report.state_of(schedule).replace("_", " ")

    @admin.display(description="comes next")
    def coming(self, schedule: Schedule) -> str:
        """Its next five times."""
        rows = ((one["local"], f" ({one['outcome']})" if one["outcome"] else "") for one in report.coming(schedule))
        return format_html_join("", "<div>{}{}</div>", rows)

    @admin.display(description="what came")
    def occurrences_link(self, schedule: Schedule) -> str:
        """Its occurrences."""
        return format_html('<a href="{}">Occurrences</a>', list_of(ScheduleOccurrence, "schedule", schedule.pk))


@admin.register(ScheduleOccurrence)
class ScheduleOccurrenceAdmin(StateAdmin):
    to_account = "schedule__site__account__"
    texts = ("reason",)
    list_display = ["due_at", "schedule", "outcome", "actor", "run_id", "decided_at"]
    list_select_related = ["schedule__site"]
    list_filter = ["outcome"]
