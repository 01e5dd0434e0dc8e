"""Set, end and expire overrides: the writer of :class:`Override`. One event each.

An override is locked before what its kind locks (docs/architecture.md, "Lock order").
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import conf, times
from pause_manager.actor import SYSTEM, Actor
from pause_manager.database import batches
from pause_manager.models import Override
from pause_manager.observability import audit
from pause_manager.overrides.kinds import (
    MOST_TARGET_CHARS,
    InvalidOverride,
    OverrideKind,
    OverrideTargetUnknown,
    kind_of,
)

logger = logging.getLogger("pause_manager.overrides.writer")

LONGEST = timedelta(days=366)
EXPIRED, REPLACED = "expired", "replaced"

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('slackwater override ' || %s), hashtext(%s))"


def start(kind: str, target: str, value: str, *, expires_in: timedelta, actor: Actor, reason: str = "") -> Override:
    """Have ``value`` in force for ``expires_in`` instead of what ``target`` has, and record it.

    An override of the same value of the same thing is ended first, in the same transaction: what it had replaced is
    what this one will put back. Raises ``InvalidOverride``, ``OverrideTargetUnknown`` or ``OverrideRefused``, and then
    changes nothing.
    """
    known = kind_of(kind)
    text = target.strip()
    if not text or len(text) > MOST_TARGET_CHARS or "\x00" in text:
        raise known.invalid_target(text)
    if not timedelta(0) < expires_in <= LONGEST:
        raise InvalidOverride(
            f"Cannot override for {expires_in.total_seconds():g} s: expected more than 0 s and at most 366 days."
        )
    stored_value, stored_target = known.value(value.strip()), known.target(text)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [kind, stored_target])
        current = _locked().filter(kind=kind, target=stored_target).first()
        if current is not None:
            _end(known, current, actor=actor, why=REPLACED)
        previous = known.apply(stored_target, stored_value)
        override = Override.objects.create(
            kind=kind,
            target=stored_target,
            scope=known.scope(stored_target),
            value=stored_value,
            previous=previous,
            reason=reason,
            actor=actor.name,
            expires_at=Now() + expires_in,
        )
        override.refresh_from_db()
        audit.record(
            "override_set",
            scope=override.scope,
            actor=actor,
            reason=reason,
            details={"override": override.pk, "kind": kind, "target": stored_target},
            after={"value": stored_value, "expires_at": override.expires_at.isoformat()},
        )
        known.followed(stored_target)
    return override


def end(override_id: int, *, actor: Actor, reason: str = "") -> Override:
    """End an override before its time. One that has ended is returned as it is: the same end twice changes nothing.

    Raises ``OverrideTargetUnknown`` if there is none of that id.
    """
    with transaction.atomic():
        override = Override.objects.select_for_update().filter(pk=override_id).first()
        if override is None:
            raise OverrideTargetUnknown(f"Cannot end override {override_id}: there is none of that number.")
        if override.ended_at is None:
            kind = kind_of(override.kind)
            _end(kind, override, actor=actor, why="ended by an operator", reason=reason)
            kind.followed(override.target)
        override.refresh_from_db()
    return override


def expire() -> int:
    """End every override that is due; returns how many. Safe to run twice at once.

    One that fails is logged, is tried again the next time, and keeps no other.
    """
    ended = 0
    for pk in list(Override.objects.due().order_by("expires_at", "id").values_list("pk", flat=True)):
        try:
            ended += _expire(pk)
        except Exception:
            logger.exception("Override %d could not be ended; it is tried again. The others are not affected.", pk)
    return ended


def _expire(pk: int) -> bool:
    with transaction.atomic():
        override = _locked(skip=True).filter(pk=pk, expires_at__lte=Now()).first()
        if override is None:
            return False
        kind = kind_of(override.kind)
        _end(kind, override, actor=SYSTEM, why=EXPIRED)
        kind.followed(override.target)
        return True


def _locked(*, skip: bool = False) -> Any:
    return Override.objects.active().select_for_update(skip_locked=skip)


def _end(kind: OverrideKind, override: Override, *, actor: Actor, why: str, reason: str = "") -> None:
    """Restore and record; the row is locked."""
    restored = kind.restore(override.target, override.value, override.previous)
    outcome = f"{why}: {restored}"
    Override.objects.filter(pk=override.pk, ended_at__isnull=True).update(
        ended_at=Now(), ended_by=actor.name, outcome=outcome[:300]
    )
    audit.record(
        "override_ended",
        scope=override.scope,
        actor=actor,
        reason=reason or outcome,
        details={"override": override.pk, "kind": override.kind, "target": override.target, "outcome": outcome},
        before={"value": override.value, "expires_at": override.expires_at.isoformat()},
        after={"value": None},
    )


def sentence(override: Override) -> str:
    """One line for people."""
    kind = kind_of(override.kind)
    why = f": {override.reason}" if override.reason else ""
    ends = (
        f"until {times.written(override.expires_at)}"
        if override.ended_at is None
        else f"until {times.written(override.ended_at)} ({override.outcome})"
    )
    return (
        f"{override.pk}  {kind.title} {override.target} is {kind.told(override.value)} {ends}, by {override.actor}{why}"
    )


def forget() -> int:
    """Delete the overrides that ended more than ``history_days`` ago; returns how many. Their events stay."""
    return batches.delete(
        Override._meta.db_table,
        "ended_at",
        "ended_at < statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)",
        {"days": conf.settings().history_days},
    )
