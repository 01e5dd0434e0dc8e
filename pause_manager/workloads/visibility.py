"""What a user may see of all workloads: events, entries of the pause queue, agents, scopes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from django.db.models import Q
from django.db.models.expressions import Combinable

from pause_manager.models import ControlEvent, ControlEventQuerySet, PauseQueueEntry, PauseQueueQuerySet
from pause_manager.workloads.contract import Workload
from pause_manager.workloads.registry import registered

READ_ALL_EVENTS = "pause_manager.view_controlevent"
VIEW_ALL_ENTRIES, CHANGE_ALL_ENTRIES = "pause_manager.view_pausequeueentry", "pause_manager.change_pausequeueentry"


def tenant_of(scope: str) -> Combinable | None:
    """Return SQL for the tenant of ``scope`` by the first workload that knows it."""
    return next((found for workload in registered() if (found := workload.tenant_of(scope)) is not None), None)


def visible_events(user: Any) -> ControlEventQuerySet | None:
    """Return the events that ``user`` may read, or ``None`` if the audit trail is not theirs to read."""
    if not user.is_authenticated:
        return None
    if user.has_perm(READ_ALL_EVENTS):
        return ControlEvent.objects.all()
    found = None
    for workload in registered():
        events = workload.visible_events(user)
        if events is not None:
            found = events if found is None else found | events
    return found


def view_permissions() -> list[str]:
    """Return the permissions with each of which a user may read some entries of the pause queue or all."""
    return [VIEW_ALL_ENTRIES, *filter(None, (workload.view_permission for workload in registered()))]


def change_permissions() -> list[str]:
    """Return the permissions with each of which a user may change some entries of the pause queue or all."""
    return [CHANGE_ALL_ENTRIES, *filter(None, (workload.operate_permission for workload in registered()))]


def visible_entries(user: Any) -> PauseQueueQuerySet:
    """Return the entries of the pause queue that ``user`` may read; those of a superuser are all."""
    return _entries(user, VIEW_ALL_ENTRIES, attrgetter("view_permission"))


def changeable_entries(user: Any) -> PauseQueueQuerySet:
    """Return the entries of the pause queue that ``user`` may change; those of a superuser are all."""
    return _entries(user, CHANGE_ALL_ENTRIES, attrgetter("operate_permission"))


def _entries(user: Any, of_all: str, permission_of: Callable[[Workload], str]) -> PauseQueueQuerySet:
    if user.has_perm(of_all):
        return PauseQueueEntry.objects.all()
    found = PauseQueueEntry.objects.none()
    for workload in registered():
        permission = permission_of(workload)
        if permission and user.has_perm(permission) and (entries := workload.visible_entries(user)) is not None:
            found |= entries
    return found


def visible_agents(user: Any) -> set[str]:
    """Return the names of the agents that ``user`` may see."""
    return {name for workload in registered() for name in workload.visible_agents(user)}


def hidden_scopes(user: Any) -> Q:
    """Return a condition on ``scope`` for what ``user`` must not see."""
    found = Q(pk__in=[])
    for workload in registered():
        found |= workload.hidden_scopes(user)
    return found


def events_for(user: Any, events: Iterable[ControlEvent]) -> list[ControlEvent]:
    """Return ``events`` with their reasons as far as ``user`` may see them: changed in place, not to be saved."""
    found = list(events)
    for event in found:
        for workload in registered():
            event.reason = workload.reason_for(user, event)
    return found
