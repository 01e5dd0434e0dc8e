"""Admin actions: each reports what was done and what was not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from pause_manager import manager, overrides
from pause_manager.admin.base import actor_of, reason_of
from pause_manager.errors import InvalidHold
from pause_manager.fleet import bulk_holds
from pause_manager.models import ControlEvent, Hold, Override, PauseQueueEntry, WorkerNode
from pause_manager.nodes import operator_threshold
from pause_manager.observability.audit_export import exported
from pause_manager.pause_queue import answering, stuck


@admin.action(description="Release selected operators' holds")
def release_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Hold]) -> None:
    active = queryset.filter(released_at__isnull=True)
    for hold in active.exclude(kind=Hold.Kind.OPERATOR):
        messages.warning(request, f"Cannot release the {hold}: it is not an operator's.")
    for scope in active.filter(kind=Hold.Kind.OPERATOR).values_list("scope", flat=True):
        release(request, [scope])


@admin.action(description="Hold selected nodes")
def hold_nodes(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkerNode]) -> None:
    scopes = [f"node:{name}" for name in queryset.values_list("name", flat=True)]
    hold(request, scopes, "the selected nodes are already held")


def hold(request: HttpRequest, scopes: Sequence[str], otherwise: str) -> None:
    """Hold ``scopes`` and tell which; ``otherwise`` says that all of them are held."""
    try:
        outcome = bulk_holds.place(scopes, mode=Hold.Mode.DRAIN, actor=actor_of(request), reason=reason_of(request))
    except InvalidHold as refusal:
        messages.warning(request, str(refusal))
        return
    done = [*outcome.placed, *outcome.altered]
    messages.success(request, f"Held: {', '.join(done)}." if done else f"Nothing to do: {otherwise}.")


@admin.action(description="Release selected nodes")
def release_nodes(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkerNode]) -> None:
    release(request, [f"node:{name}" for name in queryset.values_list("name", flat=True)])


@admin.action(description="Set the threshold of selected nodes: 35%%, or none for that of the settings")
def set_threshold(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkerNode]) -> None:
    try:
        pause_below = operator_threshold.parsed(request.POST.get("threshold", ""))
    except operator_threshold.InvalidThreshold as refusal:
        messages.warning(request, str(refusal))
        return
    for name in queryset.values_list("name", flat=True):
        operator_threshold.set_own(name, pause_below, actor=actor_of(request), reason=reason_of(request))
        messages.success(request, f"The threshold of {name} is {operator_threshold.told(pause_below)}.")


@admin.action(description="End selected overrides")
def end_overrides(model_admin: Any, request: HttpRequest, queryset: QuerySet[Override]) -> None:
    for override in queryset:
        if override.ended_at is not None:
            messages.warning(request, f"Cannot end the {override}: it has ended already.")
            continue
        ended = overrides.end(override.pk, actor=actor_of(request), reason=reason_of(request))
        messages.success(request, f"Ended the {override}: {ended.outcome}.")


def release(request: HttpRequest, scopes: Sequence[str]) -> None:
    """Release operators' holds on ``scopes`` and tell which there were."""
    try:
        released, not_held = bulk_holds.release(scopes, actor=actor_of(request), reason=reason_of(request))
    except InvalidHold as refusal:
        messages.warning(request, str(refusal))
        return
    if released:
        messages.success(request, f"Released: {', '.join(released)}.")
    if not_held:
        messages.warning(request, f"Not held by an operator: {', '.join(not_held)}.")


@admin.action(description="Resume now, ignoring capacity")
def force_resume(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _force(request, queryset, manager.force_resume, "Resumed")


@admin.action(description="Pause these runs")
def force_pause(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _force(request, queryset, manager.force_pause, "Paused")


@admin.action(description="Drop selected messages")
def drop(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _change(request, queryset, lambda meant, **who: stuck.drop(meant, **who), "Dropped")


@admin.action(description="Run selected failed tasks again")
def answer_retry(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _change(request, queryset, lambda meant, **who: answering.answer(meant, "retry", **who), "Run again")


@admin.action(description="Skip selected failed tasks")
def answer_skip(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _change(request, queryset, lambda meant, **who: answering.answer(meant, "skip", **who), "Skipped")


@admin.action(description="Let selected failed tasks fail")
def answer_fail(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    _change(request, queryset, lambda meant, **who: answering.answer(meant, "fail", **who), "Left to fail")


@admin.action(description="Reroute selected messages to the queue named")
def reroute(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    queue = request.POST.get("name", "")
    _change(request, queryset, lambda meant, **who: stuck.reroute(meant, queue, **who), "Rerouted")


@admin.action(description="Rename the task of selected messages to the name given")
def rename(model_admin: Any, request: HttpRequest, queryset: QuerySet[PauseQueueEntry]) -> None:
    new = request.POST.get("name", "")
    _change(request, queryset, lambda meant, **who: stuck.rename_entries(meant, new, **who), "Renamed")


@admin.action(description="Download selected events as CSV")
def download_csv(model_admin: Any, request: HttpRequest, queryset: QuerySet[ControlEvent]) -> StreamingHttpResponse:
    return exported(request, queryset, "csv")


@admin.action(description="Download selected events as JSON lines")
def download_jsonl(model_admin: Any, request: HttpRequest, queryset: QuerySet[ControlEvent]) -> StreamingHttpResponse:
    return exported(request, queryset, "jsonl")


def _change(
    request: HttpRequest, queryset: QuerySet[PauseQueueEntry], verb: Callable[..., list[int]], done_word: str
) -> None:
    """Tells how many were changed and which were not."""
    who = {"actor": actor_of(request), "reason": reason_of(request)}
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
    actor, reason = actor_of(request), reason_of(request)
    done = 0
    for pk in queryset.values_list("pk", flat=True):
        try:
            if verb(pk, actor=actor, reason=reason):
                done += 1
            else:
                messages.warning(request, f"Entry {pk} no longer waits.")
        except InvalidHold as refusal:
            messages.warning(request, str(refusal))
    if done:
        messages.success(request, f"{done_word}: {done}.")
