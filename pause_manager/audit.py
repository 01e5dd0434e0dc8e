"""The audit trail: the only writer of :class:`ControlEvent`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from pause_manager.actor import Actor
from pause_manager.models import ControlEvent
from pause_manager.signals import event_recorded

logger = logging.getLogger("pause_manager.audit")


def record(action: str, *, scope: str, actor: Actor, reason: str = "", figures: dict[str, Any] | None = None) -> None:
    """Append one event; call it inside the transaction of the change it tells of, so that both or neither stand."""
    record_each(action, [(scope, figures or {})], actor=actor, reason=reason)


def record_each(action: str, scopes: Iterable[tuple[str, dict[str, Any]]], *, actor: Actor, reason: str = "") -> None:
    """Append one event for each (scope, figures), in one statement."""
    events = [
        ControlEvent(
            action=action,
            scope=scope,
            actor=actor.name,
            channel=actor.channel,
            reason=reason,
            request_id=actor.request_id,
            figures=figures,
        )
        for scope, figures in scopes
    ]
    ControlEvent.objects.bulk_create(events, batch_size=1000)
    scoped = [event.scope for event in events]
    event_recorded.send(ControlEvent, action=action, scopes=scoped, actor=actor, reason=reason)
    for event in events:
        logger.info("%s %s by %s through %s: %s", action, event.scope, actor.name, actor.channel, reason or "-")
