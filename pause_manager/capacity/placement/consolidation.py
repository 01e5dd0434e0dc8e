"""Making room for large work by moving small: which node, and what of ours leaves it for a place elsewhere.

Work that can pause moves at the price of one item. What waits for more than any node has left, although other processes
leave enough of one, gets that node if all that is in its way fits elsewhere, now.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import is_readable
from pause_manager.capacity.placement.ledger import Placement, ReservationLedger
from pause_manager.capacity.placement.queue_line import Waiting
from pause_manager.capacity.placement.reserved_nodes import ReservedNode, barred_for, has_node
from pause_manager.capacity.placement.sites import Site, Sites, Want
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.resuming import RampState
from pause_manager.capacity.snapshot import Allocation
from pause_manager.capacity.yielding import NodeState

KINDS_TRIED = 4
"""Kinds of waiting work that one poll tries to make room for, the most urgent first."""
NODES_TRIED = 12
"""Nodes tried for each, those first where the least is in the way."""
SETS_TRIED = 3
"""Sets of loads tried on one node, each without what had no place elsewhere before."""
MOST_MOVES = 32
"""Loads that may be in the way on one node."""
MOVE_SECONDS = 1.0
"""What any move costs beside the work that is repeated: it is given back, waits, and is sent on."""

Cost = tuple[float, int, float]
Figures = dict[str, Any]
_Kind = tuple[Needs, str, str]
"""Needs, queue and policy of a load: where one of a kind has no place, no other has."""


@dataclass(frozen=True)
class Move:
    """A load that is asked to leave its node, and where it would fit now."""

    allocation: Allocation
    to: str
    last_moved_at: float | None = None


@dataclass(frozen=True)
class Consolidation:
    """A node kept free for ``entry`` from now on, and what must leave it: nothing, if it only needs a little time."""

    entry: Waiting
    kept: ReservedNode
    moves: tuple[Move, ...]
    sentence: str
    figures: Figures = field(default_factory=dict)

    @property
    def refs(self) -> tuple[str, ...]:
        """Return what is asked to yield."""
        return tuple(move.allocation.ref for move in self.moves)


def consolidate(
    ramp: RampState,
    ledger: ReservationLedger,
    policy: Policy,
    now: float,
    states: Mapping[str, NodeState] | None = None,
    sites: Sites | None = None,
    policy_of: Callable[[str], Policy] | None = None,
) -> tuple[list[Consolidation], RampState]:
    """Make room for what ``plan_resume`` found none for (``ramp.short``), by moves that fit all together.

    ``ledger`` is that of the plan, with its reservations; it is left as it was. The cheapest set goes: the least work
    repeated, then the least urgent work, then what was last moved the longest ago. What is more urgent than the entry,
    has run for less than a minute, or was moved within the cooldown stays. At most ``KINDS_TRIED`` x ``NODES_TRIED``
    sets are looked at. ``policy_of`` gives the policy of a load that names one. ``sites`` spares a caller that polls
    again and again measuring nodes that have not changed.
    """
    short = _short(ramp, ledger) if policy.consolidates else []
    if not short:
        return [], ramp
    moved = {piece: at for piece, at in ramp.moved if now - at < policy.move_cooldown_seconds}
    search = _Search(ledger, policy, now, states or {}, sites or Sites(), moved, policy_of)
    reserved_nodes = dict(ramp.reserved_for)
    made = len(ramp.kept)
    found: list[Consolidation] = []
    most = max(1, len(ledger.views) // 10)
    with ledger.trying():
        for entry in short:
            if made + len(found) >= most:
                break
            one = search.room_for(entry, reserved_nodes)
            if one is not None:
                found.append(one)
                reserved_nodes[one.kept.node] = entry.needs
                moved |= {piece_of(move.allocation): now for move in one.moves}
    after = RampState(
        ramp.allowance,
        ramp.polled_at,
        tuple(sorted(reserved_nodes)),
        tuple(sorted(reserved_nodes.items(), key=lambda one: one[0])),
        kept=(*ramp.kept, *(one.kept for one in found)),
        moved=tuple(sorted(moved.items())),
    )
    return found, after


def piece_of(allocation: Allocation) -> str:
    """Return what of a load stays the same when the work resumes elsewhere."""
    return allocation.piece or allocation.ref.partition("/")[0]


def _kind(allocation: Allocation) -> _Kind:
    return allocation.needs, allocation.queue, allocation.policy


def _short(ramp: RampState, ledger: ReservationLedger) -> list[Waiting]:
    """Return what has no node kept for its kind."""
    kept = {one.node: one.needs for one in ramp.kept}
    return [entry for entry in ramp.short if not has_node(kept, entry.needs, entry.queue, ledger.views)][:KINDS_TRIED]


class _Search:
    """What one poll knows while it looks for sets."""

    def __init__(
        self,
        ledger: ReservationLedger,
        policy: Policy,
        now: float,
        states: Mapping[str, NodeState],
        sites: Sites,
        moved: Mapping[str, float],
        policy_of: Callable[[str], Policy] | None,
    ) -> None:
        self.ledger = ledger
        self.policy = policy
        self.now = now
        self.states = states
        self.sites = sites
        self.moved = moved
        self.gone: set[str] = set()
        """What earlier sets of this poll move."""
        self._policy_of = policy_of or (lambda name: policy)
        self._has_place: dict[_Kind, bool] = {}

    def room_for(self, entry: Waiting, reserved_nodes: Mapping[str, Needs]) -> Consolidation | None:
        """The cheapest way to make room for ``entry``; its moves are reserved in the ledger."""
        policy = entry.policy or self.policy
        want = Want.of(entry.needs, policy, entry.queue)
        urgency = entry.priority
        if policy.ageing_seconds:
            urgency = max(1, urgency - int((self.now - entry.paused_at) // policy.ageing_seconds))
        ways: list[tuple[Cost, str, list[Move]]] = []
        for site in self._nearest(want, barred_for(reserved_nodes, entry.needs)):
            moves = self._moves(site, want, urgency, reserved_nodes)
            if moves:
                ways.append((self._cost(moves), site.name, moves))
        if not ways:
            return None
        ways.sort(key=lambda way: way[:2])
        _, node, moves = ways[0]
        self._reserve(moves)
        until = self.now + self.policy.move_patience_seconds
        kept = ReservedNode(node, entry.needs, entry.ref, self.now, until, len(moves))
        figures = {
            "waits": {"ref": entry.ref, "priority": entry.priority, "seconds": round(self.now - entry.paused_at)},
            "moves": [self._told(move) for move in moves],
            "repeats_seconds": round(sum(move.allocation.repeats_seconds for move in moves), 1),
            "runners_up": [
                {
                    "node": name,
                    "repeats_seconds": round(cost[0] - MOVE_SECONDS * len(others), 1),
                    "most_urgent": 6 - cost[1],
                    "moves": [move.allocation.ref for move in others],
                }
                for cost, name, others in ways[1:4]
            ],
        }
        return Consolidation(entry, kept, tuple(moves), _sentence(entry, node, moves), figures)

    def _nearest(self, want: Want, barred: Collection[str]) -> list[Site]:
        """Nodes where other processes leave room for ``want``, those first where the least of ours is in the way."""
        ways = self.sites.ways(want, self.ledger, self.states, self.policy, self.now)
        able = ((way, name) for name, way in ways.items() if name not in barred and self._is_open(name))
        return [self._site(name) for _, name in heapq.nsmallest(NODES_TRIED, able)]

    def _is_open(self, name: str) -> bool:
        state = self.states.get(name)
        if state is not None and self.now < state.cooldown_until:
            return False
        return is_readable(self.ledger.views[name], self.now, self.policy)

    def _site(self, name: str) -> Site:
        return self.sites.of(self.ledger.views[name], self.states.get(name), self.policy, self.now)

    def _moves(self, site: Site, want: Want, urgency: int, reserved_nodes: Collection[str]) -> list[Move] | None:
        """Return what must leave ``site`` for ``want``, each with a place elsewhere; None if that is not to be had."""
        may = [
            allocation
            for allocation in site.view.allocations
            if self._may_move(allocation, urgency) and self._fits_anywhere(allocation)
        ]
        if not may and site.in_the_way(want):
            return None
        barred = {*reserved_nodes, site.name}
        nowhere: set[_Kind] = set()
        for _ in range(SETS_TRIED):
            chosen = site.cheapest(
                [allocation for allocation in may if _kind(allocation) not in nowhere], want, self._price
            )
            if chosen is None or len(chosen) > MOST_MOVES:
                return None
            chosen.sort(
                key=lambda allocation: (
                    -allocation.needs.gpus,
                    -allocation.needs.cpu,
                    -allocation.needs.memory_mib,
                    allocation.ref,
                )
            )
            places: list[Placement] = []
            with self.ledger.trying():
                for allocation in chosen:
                    place = self._place(allocation, barred)
                    if place is None:
                        nowhere.add(_kind(allocation))
                        break
                    places.append(place)
            if len(places) == len(chosen):
                return [
                    Move(allocation, place.node, self.moved.get(piece_of(allocation)))
                    for allocation, place in zip(chosen, places, strict=True)
                ]
        return None

    def _may_move(self, allocation: Allocation, urgency: int) -> bool:
        return (
            allocation.can_yield
            and allocation.can_move
            and not allocation.is_sent
            and allocation.priority >= urgency
            and self.now - (allocation.works_since or allocation.started_at) >= self.policy.sensor_lag_seconds
            and allocation.repeats_seconds <= self.policy.move_repeats_seconds
            and allocation.ref not in self.gone
            and piece_of(allocation) not in self.moved
        )

    def _fits_anywhere(self, allocation: Allocation) -> bool:
        """Return whether any node takes such a load now. In a full fleet none does, and no set need be looked at."""
        kind = _kind(allocation)
        if kind not in self._has_place:
            with self.ledger.trying():
                self._has_place[kind] = self._place(allocation) is not None
        return self._has_place[kind]

    def _place(self, allocation: Allocation, barred: Collection[str] = ()) -> Placement | None:
        return self.ledger.place(allocation.needs, barred, self._policy_of(allocation.policy), allocation.queue)

    def _price(self, allocation: Allocation) -> Cost:
        return (MOVE_SECONDS + allocation.repeats_seconds, 6 - allocation.priority, allocation.started_at)

    def _cost(self, moves: Sequence[Move]) -> Cost:
        allocations = [move.allocation for move in moves]
        return (
            sum(MOVE_SECONDS + allocation.repeats_seconds for allocation in allocations),
            max((6 - allocation.priority for allocation in allocations), default=0),
            max((allocation.started_at for allocation in allocations), default=0.0),
        )

    def _reserve(self, moves: Iterable[Move]) -> None:
        for move in moves:
            self.gone.add(move.allocation.ref)
            room = self.ledger.headrooms[move.to]
            gpus = room.gpus_for(move.allocation.needs, queue=move.allocation.queue) or ()
            self.ledger.reserve(move.allocation.needs, Placement(move.to, gpus), move.allocation.queue)

    def _told(self, move: Move) -> Figures:
        allocation = move.allocation
        return {
            "ref": allocation.ref,
            "priority": allocation.priority,
            "ran_seconds": round(self.now - allocation.started_at, 1),
            "repeats_seconds": round(allocation.repeats_seconds, 1),
            "fits_on": move.to,
        }


def _sentence(entry: Waiting, node: str, moves: Sequence[Move]) -> str:
    # Work that has to leave may be of another tenant: the event of the node alone names what it leaves for.
    keeps = f"{node} is kept free for larger work, which needs {entry.needs} and fits on no node as it is"
    if not moves:
        return f"{keeps}; nothing needs to move."
    what = "one piece of work moves" if len(moves) == 1 else f"{len(moves)} pieces of work move"
    fits = ", ".join(sorted({move.to for move in moves})[:3])
    return f"{keeps}; {what} away: there is room on {fits}."
