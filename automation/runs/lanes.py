"""Lanes: who of those that wait gets a free place, and what a lane is like. The writer of ``Lane``.

``fill`` is called after each commit that may let a run have a place: a start was requested, a run has ended, was parked
or resumed, a hold was released, a dependency was decided, an order, width or policy was changed. ``fill_all`` does the
same for every lane, from the reconciler, for what a process that died has not done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from automation import dispatch
from automation.errors import LaneRefused, TransitionRefused
from automation.gate import lane_order, standstills
from automation.models import AutomationRun, Lane, Lifecycle
from automation.models.lanes import MOST_WIDTH, lock_lane
from automation.models.runs import lock_runs
from automation.models.tables import LANE, RUN
from automation.runs import advancing, places
from automation.signals import places_freed
from pause_manager import database, scopes
from pause_manager.actor import SYSTEM, Actor
from pause_manager.observability import audit, gate_health

logger = logging.getLogger("automation.runs.lanes")

AT_ONCE = 20
"""Places given at once, so that a verb which frees many stays quick; the reconciler gives the rest."""
PAGE = 500
"""Runs of a lane that are looked at while its order cannot be read."""


def ensure(name: str) -> None:
    """Create the row of a lane that has none."""
    if not Lane.objects.filter(name=name).exists():
        Lane.objects.bulk_create([Lane(name=name)], ignore_conflicts=True)


def begin_if_open(run: AutomationRun, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Begin a pending run with a requested start if nothing keeps it and a place of its lane is free for it."""
    fill(run.lane, asked=run.pk, actor=actor, reason=reason)
    run.refresh_from_db()
    return run


def fill(
    lane: str,
    *,
    asked: UUID | None = None,
    actor: Actor = SYSTEM,
    reason: str = "",
    is_complete: bool = False,
) -> int:
    """Give the free places of ``lane`` to the first who wait: a pending run starts, a resumed one continues.

    Returns how many got one; at most ``AT_ONCE``, unless it ``is_complete``. A run that something else keeps is not
    passed over: a place stays free for it. ``actor`` and ``reason`` are those of the start of ``asked``; the others are
    started by the system. Each place is given in a transaction of its own, which takes the lane first.
    """
    _leave_places(lane)
    first, is_order_known = _first(lane)
    given = 0
    for pk, lifecycle in first:
        if given >= AT_ONCE and not is_complete:
            break  # the reconciler continues
        try:
            if lifecycle == Lifecycle.RUNNING:
                given += _continue(pk, lane, is_order_known=is_order_known)
            elif pk == asked:
                given += advancing.begin(AutomationRun.objects.get(pk=pk), actor=actor, reason=reason)
            else:
                given += advancing.begin(AutomationRun.objects.get(pk=pk), actor=SYSTEM, reason="the gate is open")
        except (TransitionRefused, AutomationRun.DoesNotExist):
            continue  # another process was faster
        except Exception as error:
            if pk == asked or database.is_away(error):
                raise
            logger.exception("Run %s could not be started; continuing with the others.", pk)
    return given


def fill_each(lanes: Iterable[str], *, is_complete: bool = False) -> int:
    """:func:`fill` each of ``lanes``; an error in one keeps no other."""
    given = 0
    for lane in sorted(set(lanes)):
        try:
            given += fill(lane, is_complete=is_complete)
        except Exception as error:
            if database.is_away(error):
                raise
            logger.exception("Lane %s could not be filled; continuing with the others.", lane)
    return given


def fill_all() -> int:
    """:func:`fill` every lane in which somebody waits and a place is free; returns how many places were given."""
    _leave_places(None)
    try:
        with gate_health.guarded_read("lane"), connection.cursor() as cursor:
            cursor.execute(lane_order.WITH_FREE_PLACES)
            lanes = [row[0] for row in cursor.fetchall()]
    except Exception as error:
        if database.is_away(error):
            raise
        lanes = list(_waiting().order_by("lane").values_list("lane", flat=True).distinct())
    given = fill_each(lanes, is_complete=True)
    standstills.note_without_place()
    return given


def fill_of(run_ids: Sequence[UUID | str]) -> int:
    """:func:`fill` the lanes of the runs; returns how many places were given."""
    runs = AutomationRun.objects.unfinished().filter(pk__in=[UUID(str(pk)) for pk in run_ids])
    given = fill_each(runs.order_by("lane").values_list("lane", flat=True).distinct())
    standstills.note_without_place(run_ids)
    return given


def fill_after(sender: Any, lanes: set[str], **_: Any) -> None:
    """The receiver of ``places_freed``."""
    fill_each(lanes)


places_freed.connect(fill_after, dispatch_uid="lanes")


def change(
    name: str, *, policy: str | None = None, width: int | None = None, actor: Actor, reason: str = ""
) -> tuple[Lane, int]:
    """Give a lane another policy or width; returns it, and how many runs got a place by it.

    A smaller width interrupts no run: places are given again when fewer runs than that hold one. Raises ``LaneRefused``
    for a value that is not allowed.
    """
    if policy is not None and policy not in Lane.Policy.values:
        raise LaneRefused(name, f"expected a policy of {' or '.join(Lane.Policy.values)}, got: {policy}")
    if width is not None and (isinstance(width, bool) or not 1 <= width <= MOST_WIDTH):
        raise LaneRefused(name, f"expected a width of 1 to {MOST_WIDTH:,}, got: {width}")
    with transaction.atomic():
        lock_lane(name)
        ensure(name)
        lane = Lane.objects.get(name=name)
        before = {"policy": str(lane.policy), "width": lane.width}
        after = {"policy": policy or str(lane.policy), "width": lane.width if width is None else width}
        if after != before:
            Lane.objects.filter(name=name).update(**after)
            audit.record("lane_changed", scope=lane.scope, actor=actor, reason=reason, before=before, after=after)
        lane.refresh_from_db()
    return lane, fill(name)


def swap_width(name: str, width: int, *, only_if: int | None = None) -> int | None:
    """Give the lane another width; return the one it had. In the caller's transaction, without an event.

    ``None``: it has another width than ``only_if``.
    """
    lock_lane(name)
    ensure(name)
    had = Lane.objects.values_list("width", flat=True).get(name=name)
    if only_if is not None and had != only_if:
        return None
    Lane.objects.filter(name=name).update(width=width)
    return had


def _first(lane: str) -> tuple[list[tuple[UUID, str]], bool]:
    """The runs to which the free places of ``lane`` go, and whether its order is known.

    An order that cannot be read keeps nobody: all who wait are first, and holds and dependencies are judged as ever.
    """
    try:
        with gate_health.guarded_read("lane"), connection.cursor() as cursor:
            cursor.execute(lane_order.FIRST, {"lane": lane})
            return list(cursor.fetchall()), True
    except Exception as error:
        if database.is_away(error):
            raise
        waiting = _waiting().filter(lane=lane, paused_at__isnull=True)
        ordered = waiting.order_by("priority", "lane_order", "created_at", "pk")
        return list(ordered.values_list("pk", "lifecycle")[:PAGE]), False


def _waiting() -> Any:
    return AutomationRun.objects.unfinished().filter(
        lane_seat_at__isnull=True, start_requested_at__isnull=False, cancel_requested_at__isnull=True
    )


def _continue(run_id: UUID, lane: str, *, is_order_known: bool) -> bool:
    """Give a place to a running run that was resumed without one, and dispatch it."""
    with transaction.atomic():
        lock_lane(lane)
        lock_runs([str(run_id)])
        if not places.take(run_id, is_order_known=is_order_known):
            return False
        standstills.end_without_place(run_id)
        audit.record("place_given", scope=scopes.run(run_id), actor=SYSTEM, reason=f"a place in lane {lane} is free")
    advancing.seal_finished([run_id])
    dispatch.of_runs([run_id])
    return True


def _leave_places(lane: str | None) -> None:
    """Free the places of paused runs in lanes that skip these: what a change of policy, or an error, has left."""
    try:
        with gate_health.guarded_read("lane"), connection.cursor() as cursor:
            cursor.execute(
                _PARKED_WITH_PLACE.format(of_lane="" if lane is None else "AND run.lane = %(lane)s"), {"lane": lane}
            )
            found = [str(row[0]) for row in cursor.fetchall()]
    except Exception as error:
        if database.is_away(error):
            raise
        return
    if found:
        with transaction.atomic():
            lock_runs(found)
            places.leave(found)


_PARKED_WITH_PLACE = f"""
    SELECT run.id FROM {LANE} AS lane JOIN {RUN} AS run ON run.lane = lane.name
     WHERE lane.policy = 'skip_parked' AND run.lane_seat_at IS NOT NULL AND run.paused_at IS NOT NULL {{of_lane}}
"""
