"""Holds, events, nodes, parked work and kept outcomes: for superusers, as this app knows no accounts to limit them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, StreamingHttpResponse

from pause_manager import manager
from pause_manager.admin import hold_actions
from pause_manager.admin.base import ReadOnlyAdmin
from pause_manager.errors import InvalidHold
from pause_manager.models import (
    CapacitySample,
    ControlEvent,
    ControlState,
    FleetWorker,
    Hold,
    IdempotencyRecord,
    PauseQueueEntry,
    RunningTask,
    WorkerNode,
)
from pause_manager.observability.actor import Actor
from pause_manager.observability.audit_export import exported
from pause_manager.pause_queue import stuck


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


class ReasonForm(ActionForm):
    """The admin's action bar with a reason."""

    reason = forms.CharField(required=False, max_length=500, label="Reason")


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
    action_form = ReasonForm
    actions = [hold_actions.release_selected]


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


@admin.action(description="Download selected events as CSV")
def download_csv(model_admin: Any, request: HttpRequest, queryset: QuerySet[ControlEvent]) -> StreamingHttpResponse:
    return exported(request, queryset, "csv")


@admin.action(description="Download selected events as JSON lines")
def download_jsonl(model_admin: Any, request: HttpRequest, queryset: QuerySet[ControlEvent]) -> StreamingHttpResponse:
    return exported(request, queryset, "jsonl")


@admin.register(ControlEvent)
class ControlEventAdmin(SuperuserAdmin):
    list_display = ["at", "action", "scope", "actor", "channel", "reason"]
    list_filter = [ByAction, ByChannel, ByAge]
    ordering = ["-at", "-id"]
    search_fields = ["=scope", "=actor", "=request_id"]
    search_help_text = "An exact scope (run:<id>), actor (user:<name>) or request id."
    actions = [download_csv, download_jsonl]


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(SuperuserAdmin):
    list_display = ["key", "actor", "status", "created_at"]
    ordering = ["-created_at"]


@admin.action(description="Force selected entries on")
def force_resume(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _force(request, queryset, manager.force_resume, "Sent on")


@admin.action(description="Hold the runs of selected entries")
def force_pause(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _force(request, queryset, manager.force_pause, "Held")


class EntryForm(ReasonForm):
    """The action bar with the name that a verb needs: of a queue or of a task."""

    name = forms.CharField(required=False, max_length=1_000, label="Queue or task")


@admin.action(description="Drop selected messages")
def drop(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _change(request, queryset, lambda meant, **who: stuck.drop(meant, **who), "Dropped")


@admin.action(description="Reroute selected messages to the queue named")
def reroute(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    queue = request.POST.get("name", "")
    _change(request, queryset, lambda meant, **who: stuck.reroute(meant, queue, **who), "Rerouted")


@admin.action(description="Rename the task of selected messages to the name given")
def rename(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    new = request.POST.get("name", "")
    _change(request, queryset, lambda meant, **who: stuck.rename_entries(meant, new, **who), "Renamed")


def _change(
    request: HttpRequest, queryset: QuerySet[PauseQueueEntry], verb: Callable[..., list[int]], done_word: str
) -> None:
    """Tells how many were changed and which were not."""
    who = {"actor": Actor.user(request.user, channel="admin"), "reason": request.POST.get("reason", "")[:500]}
    chosen = list(queryset.values_list("pk", flat=True))
    try:
        changed = verb(stuck.Selection(ids=tuple(chosen)), **who) if chosen else []
    except stuck.InvalidEntryCommand as refusal:
        messages.warning(request, str(refusal))
        return
    left = sorted(set(chosen) - set(changed))
    if left:
        named = ", ".join(map(str, left[:10]))
        messages.warning(request, f"Not changed, as they are runs or no longer wait: {len(left)} ({named}).")
    if changed:
        messages.success(request, f"{done_word}: {len(changed)}.")


def _force(
    request: HttpRequest, queryset: QuerySet[PauseQueueEntry], verb: Callable[..., bool], done_word: str
) -> None:
    """Tells how many were done and each that was not."""
    actor = Actor.user(request.user, channel="admin")
    reason = request.POST.get("reason", "")[:500]
    done = 0
    for pk in queryset.values_list("pk", flat=True):
        try:
            if verb(pk, actor=actor, reason=reason):
                done += 1
            else:
                messages.warning(request, f"Entry {pk} does not wait any more.")
        except InvalidHold as refusal:
            messages.warning(request, str(refusal))
    if done:
        messages.success(request, f"{done_word}: {done}.")


class IsWaiting(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting"), *PauseQueueEntry.Outcome.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() == "waiting":
            return queryset.filter(finished_at__isnull=True)
        return queryset.filter(outcome=self.value()) if self.value() else None


@admin.register(PauseQueueEntry)
class PauseQueueEntryAdmin(SuperuserAdmin):
    list_display = [
        "id",
        "ref",
        "task_name",
        "queue",
        "priority",
        "kept_by",
        "reason",
        "paused_at",
        "attempts",
        "problem",
        "outcome",
    ]
    list_filter = [IsWaiting, "kept_by", "problem"]
    search_fields = ["=ref"]
    search_help_text = "What waits, exactly, such as run:<id>."
    action_form = EntryForm
    actions = [force_resume, force_pause, drop, rename, reroute]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("body", "envelope", "message")


@admin.register(RunningTask)
class RunningTaskAdmin(SuperuserAdmin):
    list_display = ["task_name", "task_id", "queue", "worker", "started_at", "seen_at", "lost_at", "acks_late"]
    list_filter = ["queue"]
    search_fields = ["=task_id"]
    search_help_text = "An exact task id."


class NodeForm(ReasonForm):
    """The action bar with a threshold."""

    threshold = forms.CharField(required=False, max_length=10, label="Threshold")


@admin.register(WorkerNode)
class WorkerNodeAdmin(SuperuserAdmin):
    list_display = ["name", "last_seen_at", "is_consuming", "pause_below", "first_seen_at"]
    list_filter = ["is_consuming"]
    search_fields = ["name"]
    action_form = NodeForm
    actions = [hold_actions.hold_nodes, hold_actions.release_nodes, hold_actions.set_threshold]


@admin.register(ControlState)
class ControlStateAdmin(SuperuserAdmin):
    list_display = ["version", "is_paused", "mode", "reason", "requested_by", "requested_at", "updated_at"]


@admin.register(FleetWorker)
class FleetWorkerAdmin(SuperuserAdmin):
    list_display = ["name", "node", "serves", "acknowledged_version", "acknowledged_at", "last_seen_at"]
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
