"""The audit trail: the only writer of :class:`ControlEvent`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from pause_manager import workloads
from pause_manager.actor import Actor
from pause_manager.models import ControlEvent
from pause_manager.observability import log_context, metrics
from pause_manager.signals import event_recorded

logger = logging.getLogger("pause_manager.audit")

EVENTS = metrics.counter("slackwater_control_events_total", "Events of the audit trail, by action.", ("action",))

Facts = dict[str, Any]
Change = tuple[Facts | None, Facts | None]
"""What a thing was and what it is since; ``None`` where there was or is nothing."""


def record(
    action: str,
    *,
    scope: str,
    actor: Actor,
    reason: str = "",
    details: Facts | None = None,
    before: Facts | None = None,
    after: Facts | None = None,
) -> None:
    """Append one event; call it inside the transaction of the change it records, so that both or neither stand."""
    changes = {scope: (before, after)}
    record_each(action, [(scope, details or {})], actor=actor, reason=reason, changes=changes)


def record_each(
    action: str,
    scopes: Iterable[tuple[str, Facts]],
    *,
    actor: Actor,
    reason: str = "",
    changes: Mapping[str, Change] | None = None,
) -> None:
    """Append one event for each (scope, details), in one statement; ``changes`` are what changed, by scope."""
    request_id = actor.request_id or log_context.request_id()
    changed = changes or {}
    events = [
        ControlEvent(
            action=action,
            scope=scope,
            actor=actor.name,
            channel=actor.channel,
            reason=reason,
            request_id=request_id,
            details=details,
            before=changed.get(scope, (None, None))[0],
            after=changed.get(scope, (None, None))[1],
            tenant=workloads.tenant_of(scope),
        )
        for scope, details in scopes
    ]
    ControlEvent.objects.bulk_create(events, batch_size=1000)
    scoped = [event.scope for event in events]
    event_recorded.send(ControlEvent, action=action, scopes=scoped, actor=actor, reason=reason)
    transaction.on_commit(lambda: EVENTS.add(len(events), action=action), robust=True)
    for event in events:
        logger.info(
            "%s %s by %s through %s: %s",
            action,
            event.scope,
            actor.name,
            actor.channel,
            reason or "-",
            extra=_fields(event),
        )


def _fields(event: ControlEvent) -> Facts:
    """Return what a structured log has of an event besides its line."""
    facts = {**event.details, **(event.before or {}), **(event.after or {})}
    told = {name: facts[name] for name in ("mode", "version", "kind", "stage") if name in facts}
    names = ("action", "scope", "actor", "channel", "reason", "request_id")
    return {**{name: getattr(event, name) for name in names}, **told, **log_context.of_scope(event.scope)}


def erase(before: datetime, *, actor: Actor, reason: str) -> int:
    """Take away the events from before that time, for good; returns how many. Leaves an event that says so."""
    details = {"before": before.isoformat()}
    return erase_where("event.at < %(before)s", {"before": before}, actor=actor, reason=reason, details=details)


def erase_where(where: str, values: Facts, *, actor: Actor, reason: str, details: Facts) -> int:
    """Take away the events with ``where`` (SQL over ``event``, led by an index), the oldest first; returns how many.

    Each batch is a transaction of its own, with an event that says how many it took.
    """
    erased = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('pause_manager.erasing_in', pg_current_xact_id()::text, true)")
            cursor.execute(_ERASE.format(where=where), {**values, "size": ERASED_AT_ONCE})
            gone: int = cursor.rowcount
            cursor.execute("SELECT set_config('pause_manager.erasing_in', '', true)")
            if gone or not erased:
                record("audit_erased", scope="audit", actor=actor, reason=reason, details={"events": gone, **details})
        erased += gone
        if gone < ERASED_AT_ONCE:
            return erased


ERASED_AT_ONCE = 10_000

_ERASE = f"""
    WITH chosen AS MATERIALIZED (
        SELECT id FROM {ControlEvent._meta.db_table} AS event WHERE {{where}} ORDER BY at, id LIMIT %(size)s)
    DELETE FROM {ControlEvent._meta.db_table} WHERE id IN (SELECT id FROM chosen)
"""
