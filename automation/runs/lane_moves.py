"""The verbs that change who is before whom in a lane: to the front, to the back, before another run; priority.

A run that holds a place is before all others, whatever its priority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction

from automation import gate
from automation.errors import MoveRefused
from automation.gate import lane_order
from automation.models import AutomationRun
from automation.models.lanes import lock_lane
from automation.models.runs import RunQuerySet, lock_runs
from automation.models.tables import DEPENDENCY, RUN
from automation.runs import places, transitions
from pause_manager.actor import Actor
from pause_manager.observability import audit

PRIORITIES = range(1, 6)
"""The first is the most urgent."""


@dataclass(frozen=True)
class Moved:
    """Where a run is now among those that wait for its lane."""

    run: AutomationRun
    position: int | None
    """1 is next; ``None`` if it does not wait."""
    was_priority: int

    @property
    def sentence(self) -> str:
        """What was done, a priority that changed with it included."""
        where = f"is number {self.position} of those that wait" if self.position is not None else "does not wait"
        told = f"Run {self.run.pk} {where} in lane {self.run.lane}"
        if self.run.priority != self.was_priority:
            told += f"; its priority is {self.run.priority} now, it was {self.was_priority}"
        return f"{told}."


def to_front(run_id: UUID, *, actor: Actor, reason: str = "") -> Moved:
    """Have the run be the first to get a place, with the priority of the one that was. Raises ``MoveRefused``."""

    def move(run: AutomationRun) -> None:
        first = _others(run, "").first()
        if first is not None and not _is_before(run, first):
            places.put(run.pk, priority=first.priority, order=first.lane_order - 1)

    return _move(run_id, move, actor=actor, reason=reason)


def to_back(run_id: UUID, *, actor: Actor, reason: str = "") -> Moved:
    """Have the run be the last of those that wait now, with the priority of the one that was.

    Runs of that priority that are created later come after it. Raises ``MoveRefused``.
    """

    def move(run: AutomationRun) -> None:
        last = _others(run, "-").first()
        if last is not None and _is_before(run, last):
            order = places.make_room_after_all(run.lane, last.priority)
            places.put(run.pk, priority=last.priority, order=order)

    return _move(run_id, move, actor=actor, reason=reason)


def before(run_id: UUID, other_id: UUID, *, actor: Actor, reason: str = "") -> Moved:
    """Have the run come just before ``other_id`` of the same lane, with the priority of that one.

    Raises ``MoveRefused``, also if ``other_id`` does not wait, or is of another lane.
    """

    def move(run: AutomationRun) -> None:
        other = AutomationRun.objects.unfinished().filter(pk=other_id, lane=run.lane).first()
        if run_id == other_id:
            raise MoveRefused(run_id, "it cannot come before itself")
        if other is None:
            raise MoveRefused(run_id, f"no unfinished run {other_id} is in its lane {run.lane}")
        if other.lane_seat_at is not None:
            raise MoveRefused(run_id, f"run {other_id} holds a place in lane {run.lane} already")
        places.put(run.pk, priority=other.priority, order=places.make_room_before(other))

    return _move(run_id, move, actor=actor, reason=reason)


def set_priority(run_id: UUID, priority: int, *, actor: Actor, reason: str = "") -> Moved:
    """Give an unfinished run another priority: in its lane, where messages are sent, and where workers take turns.

    Raises ``MoveRefused``.
    """
    if isinstance(priority, bool) or priority not in PRIORITIES:
        raise MoveRefused(run_id, f"expected a priority of 1 (first) to 5, got: {priority}")

    def move(run: AutomationRun) -> None:
        if run.priority != priority:
            places.put(run.pk, priority=priority, order=0)

    return _move(run_id, move, actor=actor, reason=reason, may_have_place=True)


def _move(
    run_id: UUID, move: Callable[[AutomationRun], None], *, actor: Actor, reason: str, may_have_place: bool = False
) -> Moved:
    lane = AutomationRun.objects.present().filter(pk=run_id).values_list("lane", flat=True).first()
    if lane is None:
        raise transitions.refusal("move", run_id)
    with transaction.atomic():
        lock_lane(lane)
        lock_runs([str(run_id)])
        run = AutomationRun.objects.get(pk=run_id)
        if run.finished_at is not None or run.cancel_requested_at is not None:
            raise transitions.refusal("move", run_id)
        if run.lane_seat_at is not None and not may_have_place:
            raise MoveRefused(run_id, f"it holds a place in lane {lane} already")
        was = {"priority": run.priority, "lane_order": run.lane_order}
        with _dependencies_kept(run):
            move(run)
        run.refresh_from_db()
        now = {"priority": run.priority, "lane_order": run.lane_order}
        if now != was:
            audit.record("reordered", scope=run.scope, actor=actor, reason=reason, before=was, after=now)
            transitions.announce_places({lane})
        place = gate.place_in_line(run)
    return Moved(run, place.position, was["priority"])


def _others(run: AutomationRun, direction: str) -> RunQuerySet:
    return lane_order.waiting_in(run.lane, direction).exclude(pk=run.pk)


def _is_before(run: AutomationRun, other: AutomationRun) -> bool:
    one, another = ((each.priority, each.lane_order, each.created_at, each.pk) for each in (run, other))
    return one < another


@contextmanager
def _dependencies_kept(run: AutomationRun) -> Iterator[None]:
    """Refuse what puts a run before one that it waits for; a pair that was in that order already may stay so."""
    had = _against_dependencies(run)
    yield
    for waiting, needed in _against_dependencies(run):
        if (waiting, needed) not in had:
            raise MoveRefused(
                run.pk, f"run {str(waiting)[:8]} would come before run {str(needed)[:8]}, which it waits for"
            )


def _against_dependencies(run: AutomationRun) -> list[tuple[UUID, UUID]]:
    if run.lane_seat_at is not None:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_AGAINST, {"run": run.pk})
        return list(cursor.fetchall())


_AGAINST = f"""
    SELECT waiting.id, other.id
      FROM (SELECT run_id, after_id FROM {DEPENDENCY}
             WHERE run_id = %(run)s AND satisfied_at IS NULL AND released_at IS NULL
             UNION
            SELECT run_id, after_id FROM {DEPENDENCY}
             WHERE after_id = %(run)s AND satisfied_at IS NULL AND released_at IS NULL) AS needed
      JOIN {RUN} AS waiting ON waiting.id = needed.run_id
      JOIN {RUN} AS other ON other.id = needed.after_id
     WHERE waiting.lane = other.lane AND waiting.finished_at IS NULL AND other.finished_at IS NULL
       AND other.lane_seat_at IS NULL AND {lane_order.order("waiting")} < {lane_order.order("other")}
"""
