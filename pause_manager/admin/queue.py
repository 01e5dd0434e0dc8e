"""The pause queue and running tasks in the admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from pause_manager import times
from pause_manager.admin import actions
from pause_manager.admin.base import ReasonForm, SuperuserAdmin
from pause_manager.console import links
from pause_manager.models import FailedTask, PauseQueueEntry, RunningTask

WAITS: dict[str, str] = {PauseQueueEntry.WaitsFor.CAPACITY: "room", PauseQueueEntry.WaitsFor.HOLD: "a release"}
"""In a word or two; the reason is what was said when it was parked."""


class EntryForm(ReasonForm):
    """The action bar with the name that a verb needs: of a queue or of a task."""

    name = forms.CharField(required=False, max_length=1_000, label="Queue or task")


class IsWaiting(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("all", "All"), *PauseQueueEntry.Outcome.choices]

    def choices(self, changelist: Any) -> Iterator[Any]:
        first, *rest = super().choices(changelist)
        yield {**first, "display": "Waiting"}
        yield from rest

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() is None:
            # An action reports the entries that have stopped waiting since they were selected.
            return None if request.method == "POST" else queryset.filter(finished_at__isnull=True)
        return queryset.filter(outcome=self.value()) if self.value() != "all" else None


@admin.register(PauseQueueEntry)
class PauseQueueEntryAdmin(SuperuserAdmin):
    list_display = [
        "id",
        "what",
        "queue",
        "priority",
        "waits",
        "when",
        "attempts",
    ]
    list_filter = [IsWaiting, "waits_for", "problem"]
    search_fields = ["=ref"]
    search_help_text = "The exact reference of what waits, such as run:<id>."
    action_form = EntryForm
    actions = [
        actions.force_resume,
        actions.force_pause,
        actions.answer_retry,
        actions.answer_skip,
        actions.answer_fail,
        actions.drop,
        actions.rename,
        actions.reroute,
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("body", "envelope", "message")

    @admin.display(description="what", ordering="ref")
    def what(self, entry: PauseQueueEntry) -> str:
        link = links.of(entry.ref)
        title = format_html('<a href="{}">{}</a>', link.url, link.title) if link.url else link.title
        return format_html('{}<span class="second">{}</span>', title, entry.task_name)

    @admin.display(description="waits for", ordering="waits_for")
    def waits(self, entry: PauseQueueEntry) -> str:
        state = WAITS.get(entry.waits_for, entry.waits_for) if entry.finished_at is None else entry.outcome
        problem = f"{entry.get_problem_display()}. " if entry.problem else ""
        return format_html('{}<span class="second">{}</span>', state, f"{problem}{entry.reason}")

    @admin.display(description="since", ordering="paused_at")
    def when(self, entry: PauseQueueEntry) -> str:
        return times.written(entry.paused_at)


@admin.register(RunningTask)
class RunningTaskAdmin(SuperuserAdmin):
    list_display = ["task_name", "task_id", "queue", "worker", "started_at", "heartbeat_at", "lost_at", "acks_late"]
    list_filter = ["queue"]
    search_fields = ["=task_id"]
    search_help_text = "An exact task id."


@admin.register(FailedTask)
class FailedTaskAdmin(SuperuserAdmin):
    list_display = ["task_name", "task_id", "queue", "error_class", "tries", "failed_at", "retried_at"]
    list_filter = ["queue"]
    search_fields = ["=task_id"]
    search_help_text = "An exact task id."
    exclude = ["envelope", "body"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("body", "envelope", "message")
