"""Place, release and expire holds: the only writer of :class:`Hold`. One event each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from pause_manager import audit, metrics, notice
from pause_manager.actor import SYSTEM, Actor
from pause_manager.errors import InvalidHold
from pause_manager.models import SCOPE, Hold
from pause_manager.signals import hold_changed, hold_changing, hold_expired

logger = logging.getLogger("pause_manager.holds")

SETTLING = metrics.histogram(
    "slackwater_pause_settle_seconds",
    "From a hold on work that was running until the last of it had stopped, by kind of hold.",
    ("kind",),
    metrics.LONG_SECONDS,
)
GOING_ON = metrics.histogram(
    "slackwater_resume_seconds",
    "From the release of a hold to the first work after it, by kind of hold.",
    ("kind",),
    metrics.LONG_SECONDS,
)

_PLACE = f"""
    INSERT INTO {Hold._meta.db_table}
           (scope, kind, mode, reason, actor, idempotency_key, expires_at, on_expiry, released_by, release_reason)
    SELECT scope, %(kind)s, %(mode)s, %(reason)s, %(actor)s, %(idempotency_key)s, %(expires_at)s, %(on_expiry)s, '', ''
      FROM unnest(%(scopes)s::text[]) AS scope
        ON CONFLICT DO NOTHING
 RETURNING scope, id
"""

_RELEASE = f"""
    UPDATE {Hold._meta.db_table}
       SET released_at = statement_timestamp(), released_by = %(actor)s, release_reason = %(reason)s
     WHERE released_at IS NULL AND kind = %(kind)s AND scope = ANY(%(scopes)s)
 RETURNING scope, id, extract(epoch FROM statement_timestamp() - created_at)::float, mode, reason, actor, created_at
"""

# Whoever has a hold locked is changing it: what is only noted waits for nobody, so that nobody can wait for it in turn.
_NOTE = f"""
    UPDATE {Hold._meta.db_table} AS hold SET {{noted}} = statement_timestamp()
      FROM (SELECT id FROM {Hold._meta.db_table} WHERE {{due}} AND scope = ANY(%s)
             ORDER BY id FOR UPDATE SKIP LOCKED) AS due
     WHERE hold.id = due.id
 RETURNING hold.kind, extract(epoch FROM statement_timestamp() - hold.{{since}})::float
"""
_SETTLE = _NOTE.format(noted="settled_at", due="released_at IS NULL AND settled_at IS NULL", since="created_at")
_GO_ON = _NOTE.format(noted="went_on_at", due="released_at IS NOT NULL AND went_on_at IS NULL", since="released_at")


def place(
    scopes: Sequence[str],
    *,
    kind: str = Hold.Kind.OPERATOR,
    mode: str = Hold.Mode.QUIESCE,
    actor: Actor,
    reason: str = "",
    expires_at: datetime | None = None,
    on_expiry: str = Hold.OnExpiry.RESUME,
    idempotency_key: str = "",
    figures: Mapping[str, dict[str, Any]] | None = None,
) -> list[str]:
    """Hold each of ``scopes``; returns those that were not held before, in one transaction for all.

    A second hold of the same scope and kind changes nothing and keeps the first one's time, actor and reason.
    ``figures`` are kept, by scope, with the event.
    """
    for scope in scopes:
        if not SCOPE.fullmatch(scope):
            raise InvalidHold(f"Cannot hold {scope!r}: expected fleet, queue:x, pipeline:x, lane:x, run:x or node:x.")
        if scope == "fleet" and not reason.strip():
            raise InvalidHold("Cannot hold the fleet: expected a reason, got none.")
    with transaction.atomic():
        values = {
            "scopes": sorted(set(scopes)),
            "kind": kind,
            "mode": mode,
            "reason": reason,
            "actor": actor.name,
            "idempotency_key": idempotency_key,
            "expires_at": expires_at,
            "on_expiry": on_expiry,
        }
        hold_changing.send(Hold, scopes=values["scopes"])
        with connection.cursor() as cursor:
            cursor.execute(_PLACE, values)
            placed: dict[str, int] = dict(cursor.fetchall())
        details = figures or {}
        audit.record_each(
            "hold_placed",
            [
                (scope, {"hold": pk, "kind": kind, "mode": mode, **details.get(scope, {})})
                for scope, pk in placed.items()
            ],
            actor=actor,
            reason=reason,
            changes={scope: (None, _facts(values)) for scope in placed},
        )
        _announce(list(placed), actor, "placed")
    return list(placed)


def release(scopes: Sequence[str], *, kind: str = Hold.Kind.OPERATOR, actor: Actor, reason: str = "") -> list[str]:
    """Release the holds of ``kind`` on ``scopes`` and no others; returns the scopes that had one."""
    with transaction.atomic():
        hold_changing.send(Hold, scopes=sorted(set(scopes)))
        with connection.cursor() as cursor:
            cursor.execute(
                _RELEASE, {"scopes": sorted(set(scopes)), "kind": kind, "actor": actor.name, "reason": reason}
            )
            released = cursor.fetchall()
        audit.record_each(
            "hold_released",
            [(scope, {"hold": pk, "kind": kind, "held_seconds": round(held, 3)}) for scope, pk, held, *_ in released],
            actor=actor,
            reason=reason,
            changes={
                scope: ({"kind": kind, "mode": mode, "reason": why, "actor": who, "since": since.isoformat()}, None)
                for scope, _, _, mode, why, who, since in released
            },
        )
        scopes_released = [scope for scope, *_ in released]
        _announce(scopes_released, actor, "released")
    return scopes_released


def _facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """What an event tells of a hold that is placed."""
    ends = values["expires_at"]
    told = {name: str(values[name]) for name in ("kind", "mode", "reason", "actor")}
    return told | ({"expires_at": ends.isoformat(), "on_expiry": str(values["on_expiry"])} if ends else {})


def settled(scopes: Sequence[str], *, had_work: bool = True) -> int:
    """Note, once a hold, that nothing of ``scopes`` is at work any more; returns for how many holds that was news.

    How long it took is measured, unless nothing was at work in the first place.
    """
    return _noted(_SETTLE, scopes, SETTLING if had_work else None)


def went_on(scopes: Sequence[str]) -> int:
    """Note, once a hold, that the first work under ``scopes`` after its release has begun, and measure how long after.

    Where several were released, work waited for the last of them only.
    """
    return _noted(_GO_ON, scopes, GOING_ON)


def _noted(statement: str, scopes: Sequence[str], measure: metrics.Histogram | None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, [sorted(set(scopes))])
        found = cursor.fetchall()
    if found and measure is not None:
        kind, seconds = min(found, key=lambda row: row[1])
        transaction.on_commit(lambda: measure.observe(seconds, kind=kind))
    return len(found)


def expire() -> int:
    """Carry out the end action of every timed hold that is due; returns how many. Safe to run twice at once.

    ``resume`` releases. ``cancel`` releases and tells ``hold_expired`` to whoever owns the scope. ``keep`` stays in
    force, loses its end, and leaves an event as the alert.
    """
    ended = 0
    for hold in list(Hold.objects.due().order_by("id")):
        try:
            ended += _expire(hold)
        except Exception:
            logger.exception("The end action of %s failed; the other holds go on.", hold)
    return ended


def _expire(hold: Hold) -> bool:
    with transaction.atomic():
        # What goes with the scope is locked before the hold, as everywhere else.
        hold_changing.send(Hold, scopes=[hold.scope])
        if not Hold.objects.due().select_for_update(skip_locked=True).filter(pk=hold.pk).exists():
            return False
        if hold.on_expiry == Hold.OnExpiry.KEEP:
            Hold.objects.filter(pk=hold.pk).update(expires_at=None)
            audit.record(
                "hold_overdue",
                scope=hold.scope,
                actor=SYSTEM,
                reason=hold.reason,
                figures={"hold": hold.pk, "kind": hold.kind, "since": hold.created_at.isoformat()},
                before={"expires_at": hold.expires_at.isoformat() if hold.expires_at else None},
                after={"expires_at": None},
            )
            return True
        if hold.on_expiry == Hold.OnExpiry.CANCEL:
            hold_expired.send(Hold, hold=hold)
        release([hold.scope], kind=hold.kind, actor=SYSTEM, reason="its time is over")
        return True


def _announce(scopes: list[str], actor: Actor, change: str) -> None:
    if scopes:
        hold_changed.send(Hold, scopes=scopes, actor=actor, change=change)
        notice.publish_on_commit(*scopes)
