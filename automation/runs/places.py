"""The places of runs in their lanes, and their order: the writer of ``lane_seat_at``, ``lane_order`` and ``priority``.

A start gives a place and an end takes it, in ``transitions``. The caller has locked the lane, unless it takes a place
away, and the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from automation.gate import lane_order
from automation.models import AutomationRun
from automation.models.tables import LANE, RUN
from pause_manager import database
from pause_manager.observability import gate_health


def take(run_id: UUID, *, is_order_known: bool) -> bool:
    """Give a running run a place of its lane, if one is free for it and it is not paused; True if this call did it.

    If the order of the lane cannot be read, the run is not made to wait.
    """
    with connection.cursor() as cursor:
        its_turn = f"AND NOT {lane_order.MUST_WAIT}" if is_order_known else ""
        cursor.execute(_TAKE.format(and_its_turn=its_turn), [run_id])
        return bool(cursor.rowcount)


def leave(run_ids: Sequence[str]) -> set[str]:
    """Take the places from those of the runs that are paused in lanes which skip these; returns the lanes.

    If the lanes cannot be read, they keep them: a pause does not fail for it, and the reconciler repeats this.
    """
    try:
        with gate_health.guarded_read("lane"), connection.cursor() as cursor:
            cursor.execute(_LEAVE, {"runs": list(run_ids)})
            return {row[0] for row in cursor.fetchall()}
    except Exception as error:
        if database.is_away(error):
            raise
        return set()


def put(run_id: UUID, *, priority: int, order: int) -> bool:
    """Give an unfinished run this priority, and this order among those of its lane that have the same."""
    return bool(AutomationRun.objects.unfinished().filter(pk=run_id).update(priority=priority, lane_order=order))


def make_room_before(run: AutomationRun) -> int:
    """Move the unfinished runs before ``run`` that have its priority further to the front, and keep their order.

    Returns the order that comes after theirs and before that of ``run``.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MAKE_ROOM, {"run": run.pk, "lane": run.lane})
    return run.lane_order - 1


def make_room_after_all(lane: str, priority: int) -> int:
    """Move the unfinished runs of this priority to the front, and keep their order; returns the order after theirs.

    It is that of runs that are created, so these come after it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MAKE_ROOM_AFTER, {"lane": lane, "priority": priority})
    return 0


_TAKE = f"""
    UPDATE {RUN} AS run SET lane_seat_at = statement_timestamp()
     WHERE run.id = %s AND run.lifecycle = 'running' AND run.finished_at IS NULL AND run.lane_seat_at IS NULL
       AND run.paused_at IS NULL AND run.cancel_requested_at IS NULL {{and_its_turn}}
"""

_LEAVE = f"""
    UPDATE {RUN} AS run SET lane_seat_at = NULL
     WHERE run.id = ANY(%(runs)s::uuid[]) AND run.lane_seat_at IS NOT NULL AND run.paused_at IS NOT NULL
       AND EXISTS (SELECT FROM {LANE} WHERE name = run.lane AND policy = 'skip_parked')
 RETURNING run.lane
"""

_MAKE_ROOM = f"""
    UPDATE {RUN} AS other SET lane_order = other.lane_order - 2
      FROM {RUN} AS run
     WHERE run.id = %(run)s AND other.lane = %(lane)s AND other.finished_at IS NULL AND other.priority = run.priority
       AND {lane_order.order("other")} < {lane_order.order("run")}
"""

_MAKE_ROOM_AFTER = f"""
    UPDATE {RUN} AS other SET lane_order = other.lane_order - last.by
      FROM (SELECT max(lane_order) + 1 AS by FROM {RUN}
             WHERE lane = %(lane)s AND finished_at IS NULL AND priority = %(priority)s) AS last
     WHERE other.lane = %(lane)s AND other.finished_at IS NULL AND other.priority = %(priority)s AND last.by > 0
"""
