"""Who may read which events. Who knows of tenants registers a reader; this app alone knows only who reads all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pause_manager.models import ControlEvent
from pause_manager.models._querysets import ControlEventQuerySet

READ_ALL = "pause_manager.view_controlevent"

Reader = Callable[[Any], ControlEventQuerySet | None]
"""Given a user, the events that they may read, or ``None`` if it has nothing to say of them."""

_readers: list[Reader] = []

Censor = Callable[[Any, ControlEvent], str]
"""Given a user and an event that they may read, its reason as far as it is for them."""

_censors: list[Censor] = []


def register(reader: Reader) -> Reader:
    """Have ``reader`` asked of everybody who may not read all; usable as a decorator."""
    _readers.append(reader)
    return reader


def visible_to(user: Any) -> ControlEventQuerySet | None:
    """The events that ``user`` may read, or ``None`` if the audit trail is not theirs to read."""
    if not user.is_authenticated:
        return None
    if user.has_perm(READ_ALL):
        return ControlEvent.objects.all()
    found = [events for reader in _readers if (events := reader(user)) is not None]
    if not found:
        return None
    first, *others = found
    for events in others:
        first |= events
    return first


def register_censor(censor: Censor) -> Censor:
    """Have ``censor`` asked of every event before it is shown to anybody; usable as a decorator."""
    _censors.append(censor)
    return censor


def as_told_to(user: Any, events: Iterable[ControlEvent]) -> list[ControlEvent]:
    """``events`` with their reasons as far as these are for ``user``: changed in place, not to be saved."""
    found = list(events)
    for event in found:
        for censor in _censors:
            event.reason = censor(user, event)
    return found
