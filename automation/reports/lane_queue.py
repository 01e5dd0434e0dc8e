"""What is in a lane: who holds its places, who waits and why, who is paused, whether it is frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, Q

from automation import gate
from automation.gate import Reason, lane_order
from automation.gate.place_in_line import first_unpaused, unpaused_count
from automation.models import AutomationRun, Lane
from pause_manager.models import Hold
from pause_manager.observability import gate_health

MOST_TOLD = 100
"""Runs of a kind in a lane that are told, at most; the counts are of all."""


@dataclass(frozen=True)
class Waiting:
    """A run that waits for a place."""

    run: AutomationRun
    position: int
    reasons: list[Reason]
    """What keeps it, in the order of the gate; empty: it is about to start."""


@dataclass(frozen=True)
class LaneQueue:
    """One lane as it is now."""

    lane: Lane
    active: list[AutomationRun]
    """The runs that hold its places, the longest first."""
    waiting: list[Waiting]
    """Those that are not paused, in order."""
    waiting_count: int
    paused: list[AutomationRun]
    paused_count: int
    freeze: Hold | None


class Counts(NamedTuple):
    """How many runs of a lane are in which state."""

    active: int
    waiting: int
    paused: int
    frozen: bool


def counts(lane: Lane) -> Counts:
    """The lane in figures; a paused run counts as such only."""
    unfinished = AutomationRun.objects.unfinished().filter(lane=lane.name)
    is_paused = Q(paused_at__isnull=False)
    found = unfinished.aggregate(
        active=Count("pk", filter=Q(lane_seat_at__isnull=False) & ~is_paused), paused=Count("pk", filter=is_paused)
    )
    return Counts(**found, waiting=unpaused_count(lane.name), frozen=_freeze(lane) is not None)


def of(lane: Lane, *, at_most: int = MOST_TOLD) -> LaneQueue:
    """The lane with at most ``at_most`` runs of each kind."""
    return of_each([lane], at_most=at_most)[0]


def of_each(lanes: Sequence[Lane], *, at_most: int = MOST_TOLD) -> list[LaneQueue]:
    """The same for each of ``lanes``. What keeps those that wait is asked of the gate once for all."""
    placed = [_placed(lane.name, at_most) for lane in lanes]
    kept = gate.explain_each(run for some in placed for _, run in some)
    freezes: dict[str, Hold] = {}
    for hold in Hold.objects.covering([lane.scope for lane in lanes]).filter(kind=Hold.Kind.FREEZE):
        freezes.setdefault(hold.scope, hold)
    return [
        _queue(lane, some, kept, freezes.get(lane.scope), at_most) for lane, some in zip(lanes, placed, strict=True)
    ]


def _queue(
    lane: Lane,
    placed: Sequence[tuple[int, AutomationRun]],
    kept: Mapping[UUID, list[Reason]],
    freeze: Hold | None,
    at_most: int,
) -> LaneQueue:
    unfinished = AutomationRun.objects.unfinished().filter(lane=lane.name)
    seated = unfinished.filter(lane_seat_at__isnull=False).order_by("lane_seat_at", "pk")
    paused = unfinished.filter(paused_at__isnull=False).order_by("paused_at", "pk")
    return LaneQueue(
        lane=lane,
        active=list(seated.select_related("site")[:at_most]),
        waiting=[
            Waiting(run, position, [reason for reason in kept[run.pk] if reason.keeps]) for position, run in placed
        ],
        waiting_count=unpaused_count(lane.name),
        paused=list(paused.select_related("site")[:at_most]),
        paused_count=paused.count(),
        freeze=freeze,
    )


def _freeze(lane: Lane) -> Hold | None:
    return Hold.objects.covering([lane.scope]).filter(kind=Hold.Kind.FREEZE).first()


def _placed(lane: str, at_most: int) -> list[tuple[int, AutomationRun]]:
    """The first who are not paused, with their positions; without what is passed over, if that cannot be read."""
    try:
        with gate_health.guarded_read("lane"):
            positions = first_unpaused(lane, at_most)
    except Exception:
        first = lane_order.waiting_in(lane).filter(paused_at__isnull=True).values_list("pk", flat=True)[:at_most]
        positions = {pk: number for number, pk in enumerate(first, start=1)}
    runs = AutomationRun.objects.select_related("site").in_bulk(positions)
    return [(position, runs[pk]) for pk, position in positions.items() if pk in runs]
