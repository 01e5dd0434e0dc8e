"""Who may read which events. Who knows of tenants registers a reader; this app alone knows only who reads all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pause_manager.models import ControlEvent
from pause_manager.querysets import ControlEventQuerySet

READ_ALL = "pause_manager.view_controlevent"

Reader = Callable[[Any], ControlEventQuerySet | None]
"""Given a user, the events that they may read, or ``None`` if it has nothing to say of them."""

_readers: list[Reader] = []


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
