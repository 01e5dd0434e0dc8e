"""Selection of the parked work that resumes now: in order, gradually, and never more than fits."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pause_manager.capacity.needs import Needs
from pause_manager.capacity.placement.ledger import Placement, ReservationLedger
from pause_manager.capacity.placement.ledgers import resuming_ledger
from pause_manager.capacity.placement.queue_line import Kind, Line, Waiting
from pause_manager.capacity.placement.reserved_nodes import ReservedNode, barred_for, has_node, still_reserved
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView
from pause_manager.capacity.yielding import NodeState

PRESSURE_SHARE = 0.05
"""The ramp restarts at 1 when this share of the online nodes came under pressure since the last poll."""


@dataclass(frozen=True)
class RampState:
    """State that one poll leaves to the next."""

    allowance: int = 1
    """How many entries the next poll may send."""
    polled_at: float = 0.0
    reserved_nodes: tuple[str, ...] = ()
    """Nodes kept free for entries that fit nowhere yet: ``place`` must bar them for others."""
    reserved_for: tuple[tuple[str, Needs], ...] = ()
    """The same nodes with the needs of what each is kept free for."""
    kept: tuple[ReservedNode, ...] = ()
    """Those of ``reserved_nodes`` that other work was asked to leave."""
    moved: tuple[tuple[str, float], ...] = ()
    """What was asked to move lately, each with the time: see ``consolidate``."""
    short: tuple[Waiting, ...] = ()
    """Entries, one of each kind, that found no room in this poll and that room should be made for now: see
    ``consolidate``. The next poll needs none of it."""


def plan_resume(
    entries: Iterable[Waiting] | Line,
    nodes: Sequence[NodeView],
    policy: Policy,
    ramp: RampState,
    now: float,
    states: Mapping[str, NodeState] | None = None,
    ledger: ReservationLedger | None = None,
) -> tuple[list[tuple[Waiting, Placement]], RampState]:
    """The entries to send now, each with its place, and the ramp for the next poll.

    Entries that are due go by priority (raised by ageing), then by age. Nodes that are saturated, cooling down or
    not at the resume threshold take none (``states``, from ``judge``). 1, 2, 4, ... are sent per poll; new pressure,
    or no room for any, sets that back to 1. A caller that keeps a ``resuming_ledger`` and a ``Line`` up to date itself
    may bring them instead of ``nodes`` and entries.
    """
    states = states or {}
    allowance = 1 if _has_pressure(states, policy, ramp, now) else ramp.allowance
    line = entries if isinstance(entries, Line) else Line(policy, entries)
    kinds = line.kinds(now)
    front = [(*first, number) for number, (_, waiting) in enumerate(kinds) if (first := next(waiting, None))]
    if ledger is None:
        ledger = resuming_ledger(nodes, policy, now, states)
    kept = still_reserved(ramp.kept, ledger.views, policy, now)
    if not front:
        return [], RampState(1, now, moved=ramp.moved)
    plan: list[tuple[Waiting, Placement]] = []
    reserved_nodes = {one.node: one.needs for one in kept}
    before = set(reserved_nodes)
    short: list[Waiting] = []
    wanted: set[tuple[Needs, str]] = set()
    heapq.heapify(front)
    while front and len(plan) < allowance:
        rank, entry, number = heapq.heappop(front)
        (needs, own, queue), waiting = kinds[number]
        placement = ledger.place(needs, barred_for(reserved_nodes, needs), own, queue)
        if placement is None:
            wanted.add((needs, queue))
            if _is_ripe(entry, own, ramp.polled_at, now):
                short.append(entry)
            if now - rank[1] >= own.reserve_after_seconds:
                _reserve_one(ledger, kinds[number][0], reserved_nodes, ramp.reserved_nodes)
            continue
        plan.append((entry, placement))
        if following := next(waiting, None):
            heapq.heappush(front, (*following, number))
    doubled = min(max(2 * allowance, 1), policy.ramp_max) if plan else 1
    # A node is kept no longer once its work goes there, or when nothing of that kind has been left without room.
    going = {placement.node for _, placement in plan}
    has_tried_all = len(plan) < allowance
    kept = [
        one
        for one in kept
        if one.node not in going
        and (not has_tried_all or any(has_node({one.node: one.needs}, *kind, ledger.views) for kind in wanted))
    ]
    for name in before - {one.node for one in kept}:
        del reserved_nodes[name]
    return plan, RampState(
        doubled,
        now,
        tuple(sorted(reserved_nodes)),
        tuple(sorted(reserved_nodes.items(), key=lambda one: one[0])),
        kept=tuple(kept),
        moved=ramp.moved,
        short=tuple(short),
    )


def _is_ripe(entry: Waiting, policy: Policy, polled_at: float, now: float) -> bool:
    """Return whether room should be made for it: when it has waited long enough, and again every so often."""
    after, every = policy.consolidate_after_seconds, policy.consolidate_every_seconds
    waited, before = now - entry.paused_at - after, polled_at - entry.paused_at - after
    return waited >= 0 and (before < 0 or waited // every > before // every)


def _has_pressure(states: Mapping[str, NodeState], policy: Policy, ramp: RampState, now: float) -> bool:
    pressed = sum(
        state.contended_at is not None and ramp.polled_at <= state.contended_at <= now for state in states.values()
    )
    return pressed > 0 and pressed >= PRESSURE_SHARE * len(states)


def _reserve_one(
    ledger: ReservationLedger, kind: Kind, reserved_nodes: dict[str, Needs], before: Collection[str]
) -> None:
    """Keep a node free for ``needs`` that has room for it once our own loops there are done; the freest of them.

    At most one node in twenty, and one a kind. A node held at the last poll stays held as long as it will do.
    """
    needs, _, queue = kind
    if has_node(reserved_nodes, needs, queue, ledger.views) or len(reserved_nodes) >= max(1, len(ledger.nodes) // 20):
        return
    able = [
        (name in before, share, name) for name, share in ledger.shares_alone(kind).items() if name not in reserved_nodes
    ]
    if able:
        reserved_nodes[max(able)[2]] = needs
