"""Place, alter, release and expire holds: the writer of :class:`Hold`. One event each.

Locks are taken in the order of docs/architecture.md, "Lock order".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from pause_manager import conf, workloads
from pause_manager.actor import SYSTEM, Actor
from pause_manager.database import batches
from pause_manager.errors import InvalidHold
from pause_manager.holds import effects, fleet_state
from pause_manager.models import SCOPE, SCOPES, Hold
from pause_manager.observability import audit
from pause_manager.scopes import is_run
from pause_manager.workloads import HoldChange

logger = logging.getLogger("pause_manager.holds.writer")

TAKE_SHARE = "SELECT pg_advisory_xact_lock_shared(hashtext('slackwater holds'))"
"""All that start work take this share in the transaction that does so, and read the holds in a later statement of it.

A hold on anything but a run waits for all shares before it is placed: once it is committed, nothing starts under it. A
run's own holds exclude by the lock on the run. Take the share after the lock on the run, never before it.
"""
_TAKE_ALL = "SELECT pg_advisory_xact_lock(hashtext('slackwater holds'))"

_PLACE = f"""
    INSERT INTO {Hold._meta.db_table}
           (scope, kind, mode, reason, actor, idempotency_key, expires_at, on_expiry, released_by, release_reason)
    SELECT scope, %(kind)s, %(mode)s, %(reason)s, %(actor)s, %(idempotency_key)s, %(expires_at)s, %(on_expiry)s, '', ''
      FROM unnest(%(scopes)s::text[]) AS scope
        ON CONFLICT DO NOTHING
 RETURNING scope, id
"""

_ALTER = f"""
    UPDATE {Hold._meta.db_table} AS hold
       SET mode = %(mode)s, reason = %(reason)s, actor = coalesce(%(owner)s, hold.actor), expires_at = %(expires_at)s,
           on_expiry = %(on_expiry)s, idempotency_key = %(idempotency_key)s
      FROM (SELECT id, mode, reason, expires_at FROM {Hold._meta.db_table}
             WHERE released_at IS NULL AND kind = %(kind)s AND scope = ANY(%(scopes)s)
               AND (mode, reason, expires_at, on_expiry)
                   IS DISTINCT FROM (%(mode)s, %(reason)s, %(expires_at)s::timestamptz, %(on_expiry)s)
             ORDER BY id FOR UPDATE) AS was
     WHERE hold.id = was.id
 RETURNING hold.scope, hold.id, was.mode, was.reason, was.expires_at
"""

_RELEASE = f"""
    UPDATE {Hold._meta.db_table}
       SET released_at = statement_timestamp(), released_by = %(actor)s, release_reason = %(reason)s
     WHERE released_at IS NULL AND kind = %(kind)s AND scope = ANY(%(scopes)s)
 RETURNING scope, id, extract(epoch FROM statement_timestamp() - created_at)::float, mode, reason, actor, created_at
"""

_MOVE = f"""
    UPDATE {Hold._meta.db_table} AS hold SET scope = %(new)s
     WHERE released_at IS NULL AND scope = %(old)s AND NOT EXISTS (
           SELECT 1 FROM {Hold._meta.db_table} AS other
            WHERE other.released_at IS NULL AND other.scope = %(new)s AND other.kind = hold.kind)
 RETURNING id, kind, mode, reason
"""


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
    details: Mapping[str, dict[str, Any]] | None = None,
) -> list[str]:
    """Hold each of ``scopes``; returns those that were not held before, in one transaction for all.

    A second hold of the same scope and kind changes nothing and keeps the first one's time, actor and reason.
    ``details`` are kept, by scope, with the event.
    """
    for scope in scopes:
        if not SCOPE.fullmatch(scope):
            raise InvalidHold(f"Cannot hold {scope!r}: expected {SCOPES}.")
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
        effects.lock(scopes)
        with connection.cursor() as cursor:
            if any(not is_run(scope) for scope in scopes):
                cursor.execute(_TAKE_ALL)
            cursor.execute(_PLACE, values)
            placed: dict[str, int] = dict(cursor.fetchall())
        details = details or {}
        known = {
            scope: {"hold": pk, "kind": kind, "mode": mode, **details.get(scope, {})} for scope, pk in placed.items()
        }
        changes: dict[str, audit.Change] = {scope: (None, _facts(values)) for scope in placed}
        _follow(HoldChange("placed", list(known), kind, actor, reason, known), changes, mode)
    return list(placed)


def alter(
    scopes: Sequence[str],
    *,
    kind: str = Hold.Kind.OPERATOR,
    mode: str,
    actor: Actor,
    reason: str,
    expires_at: datetime | None = None,
    on_expiry: str = Hold.OnExpiry.RESUME,
    idempotency_key: str = "",
    details: Mapping[str, dict[str, Any]] | None = None,
) -> list[str]:
    """Give the holds of ``kind`` on ``scopes`` another mode, reason or end; returns those that were changed by it.

    They are in force all the while, and keep the time they were placed at.
    """
    if "fleet" in scopes and not reason.strip():
        raise InvalidHold("Cannot hold the fleet: expected a reason, got none.")
    values = {
        "scopes": sorted(set(scopes)),
        "kind": kind,
        "mode": mode,
        "reason": reason,
        "owner": actor.name,
        "idempotency_key": idempotency_key,
        "expires_at": expires_at,
        "on_expiry": on_expiry,
    }
    return _alter(values, actor=actor, details=details or {})


def _alter(values: dict[str, Any], *, actor: Actor, details: Mapping[str, dict[str, Any]]) -> list[str]:
    with transaction.atomic():
        effects.lock(values["scopes"])
        with connection.cursor() as cursor:
            cursor.execute(_ALTER, values)
            altered = cursor.fetchall()
        known = {
            scope: {
                "hold": pk,
                "kind": values["kind"],
                "mode": values["mode"],
                **details.get(scope, {}),
            }
            for scope, pk, mode, reason, ends in altered
        }
        ends_at = values["expires_at"]
        after = {"mode": values["mode"], "reason": values["reason"], "expires_at": ends_at and ends_at.isoformat()}
        changes: dict[str, audit.Change] = {
            scope: ({"mode": mode, "reason": reason, "expires_at": ends and ends.isoformat()}, after)
            for scope, _, mode, reason, ends in altered
        }
        change = HoldChange("altered", list(known), values["kind"], actor, values["reason"], known)
        _follow(change, changes, values["mode"])
    return list(known)


def exclude_starts(scopes: Sequence[str]) -> None:
    """Nothing starts until the caller's transaction ends, which may then change what is held on ``scopes``."""
    effects.lock(scopes)
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_ALL)


def move(old: str, new: str, *, actor: Actor, reason: str) -> None:
    """What is held as ``old`` is held as ``new`` from now on: since when it was, and in whose name.

    Of a kind that both have, the hold on ``new`` stays, and that on ``old`` is released. Call it after
    :func:`exclude_starts` of both, in the same transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, {"old": old, "new": new})
        moved = cursor.fetchall()
    for pk, kind, mode, why in moved:
        known = {new: {"hold": pk, "kind": kind, "mode": mode}}
        change: audit.Change = ({"scope": old}, {"scope": new})
        _follow(HoldChange("altered", [new], kind, actor, why, known), {new: change}, mode)
    for kind in list(Hold.objects.covering([old]).order_by("id").values_list("kind", flat=True)):
        release([old], kind=kind, actor=actor, reason=reason)


def release(
    scopes: Sequence[str],
    *,
    kind: str = Hold.Kind.OPERATOR,
    actor: Actor,
    reason: str = "",
    details: Mapping[str, dict[str, Any]] | None = None,
) -> list[str]:
    """Release the holds of ``kind`` on ``scopes`` and no others; returns the scopes that had one."""
    with transaction.atomic():
        effects.lock(scopes)
        with connection.cursor() as cursor:
            cursor.execute(
                _RELEASE, {"scopes": sorted(set(scopes)), "kind": kind, "actor": actor.name, "reason": reason}
            )
            released = cursor.fetchall()
        details = details or {}
        known = {
            scope: {"hold": pk, "kind": kind, "held_seconds": round(held, 3), **details.get(scope, {})}
            for scope, pk, held, *_ in released
        }
        changes: dict[str, audit.Change] = {
            scope: ({"kind": kind, "mode": mode, "reason": why, "actor": who, "since": since.isoformat()}, None)
            for scope, _, _, mode, why, who, since in released
        }
        _follow(HoldChange("released", list(known), kind, actor, reason, known), changes)
    return list(known)


def _facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """What an event records of a hold that is placed."""
    ends = values["expires_at"]
    told = {name: str(values[name]) for name in ("kind", "mode", "reason", "actor")}
    return told | ({"expires_at": ends.isoformat(), "on_expiry": str(values["on_expiry"])} if ends else {})


def expire() -> int:
    """Carry out the end action of every timed hold that is due; returns how many. Safe to run twice at once.

    ``resume`` releases. ``cancel`` has the work of the scope cancelled and releases. ``keep`` stays in force, loses its
    end, and leaves an event as the alert. ``quiesce`` stays in force and stops at the next item.
    """
    ended = 0
    for hold in list(Hold.objects.due().order_by("id")):
        try:
            ended += _expire(hold)
        except Exception:
            logger.exception("The end action of %s failed; the other holds are not affected.", hold)
    return ended


def _expire(hold: Hold) -> bool:
    """Carry out the end action of one hold; False if somebody else has done it or is doing it.

    1. What belongs to its scope is locked, then the hold, unless another process has it.
    2. ``keep`` and ``quiesce`` alter it, and it stays.
    3. ``cancel`` has the work of its scope cancelled, while it is still held.
    4. Else, and after a cancel, it is released.
    """
    with transaction.atomic():
        effects.lock([hold.scope])
        if not Hold.objects.due().select_for_update(skip_locked=True).filter(pk=hold.pk).exists():
            return False
        if hold.on_expiry == Hold.OnExpiry.KEEP:
            Hold.objects.filter(pk=hold.pk).update(expires_at=None)
            audit.record(
                "hold_overdue",
                scope=hold.scope,
                actor=SYSTEM,
                reason=hold.reason,
                details={"hold": hold.pk, "kind": hold.kind, "since": hold.created_at.isoformat()},
                before={"expires_at": hold.expires_at.isoformat() if hold.expires_at else None},
                after={"expires_at": None},
            )
            return True
        if hold.on_expiry == Hold.OnExpiry.QUIESCE:
            values = {
                "scopes": [hold.scope],
                "kind": hold.kind,
                "mode": Hold.Mode.QUIESCE,
                "reason": hold.reason,
                "owner": None,
                "idempotency_key": hold.idempotency_key,
                "expires_at": None,
                "on_expiry": hold.on_expiry,
            }
            _alter(values, actor=SYSTEM, details={hold.scope: {"deadline": True}})
            return True
        if hold.on_expiry == Hold.OnExpiry.CANCEL:
            workloads.cancel(hold.scope, "its hold ended with a cancel")
        release([hold.scope], kind=hold.kind, actor=SYSTEM, reason="expired")
        return True


def _follow(change: HoldChange, changes: Mapping[str, audit.Change], mode: str = "") -> None:
    if not change.scopes:
        return
    if wide := [scope for scope in change.scopes if fleet_state.is_obeyed_by_workers(scope)]:
        revision = fleet_state.next_revision()
        Hold.objects.filter(pk__in=[change.details[scope]["hold"] for scope in wide]).update(revision=revision)
    effects.follow(change, changes, mode)


def forget() -> int:
    """Delete the holds that were released more than ``history_days`` ago; returns how many. Their events stay."""
    return batches.delete(
        Hold._meta.db_table,
        "released_at",
        "released_at < statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)",
        {"days": conf.settings().history_days},
    )
