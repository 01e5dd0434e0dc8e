"""The state row of the fleet switch: the only writer of :class:`ControlState`.

The switch is an operator's hold on ``fleet``, placed, altered and released by ``holds`` like any other. The row follows
it in the same transaction, however the hold was changed, and counts the changes.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection, transaction

from pause_manager.actor import SYSTEM
from pause_manager.models import ControlEvent, ControlState, Hold
from pause_manager.observability import metrics
from pause_manager.workloads import HoldChange

logger = logging.getLogger("pause_manager.holds.fleet_state")

FLEET = "fleet"
UNREADABLE = "The state of the fleet cannot be read."


@dataclass(frozen=True)
class FleetState:
    """Whether the fleet is paused, and since which change. ``is_readable`` is false for a state that was assumed."""

    is_paused: bool
    mode: str
    reason: str
    version: int
    requested_by: str = ""
    requested_by_user_id: str = ""
    requested_at: datetime | None = None
    updated_at: datetime | None = None
    mode_since: datetime | None = None
    is_readable: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The ``system`` block that every answer about the fleet carries; times in ISO 8601."""
        return {
            "workersPaused": self.is_paused,
            "mode": self.mode or None,
            "reason": self.reason or None,
            "version": self.version,
            "requestedByUserId": self.requested_by_user_id or None,
            "requestedAt": self.requested_at.isoformat() if self.requested_at else None,
            "updatedAt": self.updated_at.isoformat() if self.updated_at else None,
        }


_remembered: FleetState | None = None
"""What this process read last."""


def read() -> FleetState:
    """The state, from the row. A row that is missing is made again; one that cannot be read counts as paused (W-39)."""
    global _remembered
    try:
        # A failure here must not break the transaction of the caller.
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            row = _row() or _recreated()
    except DatabaseError as error:
        logger.warning("Cannot read the state of the fleet: %s.", str(error).strip())
        metrics.DEGRADED.add(layer="fleet")
        return unreadable()
    _remembered = FleetState(**row)
    return _remembered


def unreadable() -> FleetState:
    """What holds while the row cannot be read: paused, under the version that was read last."""
    known = _remembered or FleetState(True, "", "", 0)
    return replace(known, is_paused=True, mode=known.mode or Hold.Mode.DRAIN, reason=UNREADABLE, is_readable=False)


def lock() -> FleetState:
    """The state, its row locked until the caller's transaction ends: changes take turns."""
    row = _row(for_update=True)
    if row is None:
        _recreated()
        row = _row(for_update=True)
    assert row is not None
    return FleetState(**row)


_COLUMNS = [
    "is_paused",
    "mode",
    "reason",
    "version",
    "requested_by",
    "requested_by_user_id",
    "requested_at",
    "updated_at",
    "mode_since",
]


def _row(*, for_update: bool = False) -> dict[str, Any] | None:
    rows = ControlState.objects.filter(pk=1)
    found: dict[str, Any] | None = (
        (rows.select_for_update(no_key=True) if for_update else rows).values(*_COLUMNS).first()
    )
    return found


def _recreated() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(_RECREATE)
        if cursor.rowcount:
            logger.warning("The state of the fleet was missing: it was made again from the hold and the events.")
    row = _row()
    assert row is not None
    return row


def is_obeyed_by_workers(scope: str) -> bool:
    """Whether workers stop taking messages for a hold on ``scope``: the fleet, a queue or a node."""
    return scope.partition(":")[0] in (FLEET, "queue", "node")


def next_revision() -> int:
    """Count a change of the holds that workers obey, in the transaction that changes them; the row is locked before.

    Changes take turns by that lock. So a worker that has read revision *r*, and the holds in a later statement or the
    same one, knows every hold up to *r*.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {_STATE} SET revision = revision + 1 WHERE id = 1 RETURNING revision")
        return int(cursor.fetchone()[0])


def follow(change: HoldChange) -> None:
    """Make the row agree with the operator's hold on the fleet, one version later."""
    if FLEET not in change.scopes or change.kind != Hold.Kind.OPERATOR:
        return
    hold = Hold.objects.covering([FLEET]).filter(kind=change.kind).values("mode", "reason").first()
    with connection.cursor() as cursor:
        cursor.execute(
            _FOLLOW,
            {
                "is_paused": hold is not None,
                "mode": hold["mode"] if hold else "",
                "reason": hold["reason"] if hold else change.reason,
                # A deadline that passes, or a pause that ends by itself, was asked for before.
                "is_asked_for": change.actor != SYSTEM,
                "actor": change.actor.name,
                "user_id": change.actor.user_id,
            },
        )
        (version,) = cursor.fetchone()
    change.details.setdefault(FLEET, {})["version"] = version


_STATE, _HOLD, _EVENT = (model._meta.db_table for model in (ControlState, Hold, ControlEvent))

_RECREATE = f"""
    INSERT INTO {_STATE}
           (id, version, is_paused, mode, mode_since, reason, requested_by, requested_by_user_id, requested_at)
    SELECT 1, greatest(1, (SELECT max((details->>'version')::bigint) FROM {_EVENT} WHERE scope = 'fleet')),
           hold.id IS NOT NULL, coalesce(hold.mode, ''), hold.created_at, coalesce(hold.reason, ''),
           coalesce(hold.actor, ''), '', hold.created_at
      FROM (SELECT 1) AS one
      LEFT JOIN {_HOLD} AS hold ON hold.scope = 'fleet' AND hold.kind = 'operator' AND hold.released_at IS NULL
        ON CONFLICT DO NOTHING
"""

_FOLLOW = f"""
    UPDATE {_STATE}
       SET version = version + 1, is_paused = %(is_paused)s, reason = %(reason)s, updated_at = clock_timestamp(),
           mode_since = CASE WHEN NOT %(is_paused)s THEN NULL
                             WHEN mode = %(mode)s THEN mode_since ELSE clock_timestamp() END,
           mode = %(mode)s,
           requested_by = CASE WHEN %(is_asked_for)s THEN %(actor)s ELSE requested_by END,
           requested_by_user_id = CASE WHEN %(is_asked_for)s THEN %(user_id)s ELSE requested_by_user_id END,
           requested_at = CASE WHEN %(is_asked_for)s THEN clock_timestamp() ELSE requested_at END
     WHERE id = 1
 RETURNING version
"""
