"""Admin actions on holds and nodes: each tells what was done and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from pause_manager.errors import InvalidHold
from pause_manager.fleet import bulk_holds
from pause_manager.models import Hold, WorkerNode
from pause_manager.nodes import operator_threshold
from pause_manager.observability.actor import Actor


@admin.action(description="Release selected operators' holds")
def release_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Hold]) -> None:
    active = queryset.filter(released_at__isnull=True)
    for hold in active.exclude(kind=Hold.Kind.OPERATOR):
        messages.warning(request, f"Cannot release the {hold}: it is not an operator's.")
    for scope in active.filter(kind=Hold.Kind.OPERATOR).values_list("scope", flat=True):
        _release(request, [scope])


@admin.action(description="Hold selected nodes")
def hold_nodes(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkerNode]) -> None:
    scopes = [f"node:{name}" for name in queryset.values_list("name", flat=True)]
    try:
        outcome = bulk_holds.place(scopes, mode=Hold.Mode.DRAIN, actor=_actor(request), reason=_reason(request))
    except InvalidHold as refusal:
        messages.warning(request, str(refusal))
        return
    done = [*outcome.placed, *outcome.altered]
    messages.success(request, f"Held: {', '.join(done) or 'none that was not'}.")


@admin.action(description="Release selected nodes")
def release_nodes(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkerNode]) -> None:
    _release(request, [f"node:{name}" for name in queryset.values_list("name", flat=True)])


@admin.action(description="Set the threshold of selected nodes: 35%%, or none for that of the settings")
def set_threshold(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkerNode]) -> None:
    try:
        pause_below = operator_threshold.parsed(request.POST.get("threshold", ""))
    except operator_threshold.InvalidThreshold as refusal:
        messages.warning(request, str(refusal))
        return
    for name in queryset.values_list("name", flat=True):
        operator_threshold.set_own(name, pause_below, actor=_actor(request), reason=_reason(request))
        messages.success(request, f"The threshold of {name} is {operator_threshold.told(pause_below)}.")


def _release(request: HttpRequest, scopes: Sequence[str]) -> None:
    try:
        released, not_held = bulk_holds.release(scopes, actor=_actor(request), reason=_reason(request))
    except InvalidHold as refusal:
        messages.warning(request, str(refusal))
        return
    if released:
        messages.success(request, f"Released: {', '.join(released)}.")
    if not_held:
        messages.warning(request, f"Not held by an operator: {', '.join(not_held)}.")


def _actor(request: HttpRequest) -> Actor:
    return Actor.user(request.user, channel="admin")


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").strip()[:500]
