"""Books for new and for parked work, with what is remembered of the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pause_manager.capacity.headroom import Resource
from pause_manager.capacity.placement.ledger import ReservationLedger
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView
from pause_manager.capacity.yielding import NodeState

States = Mapping[str, NodeState]


def admission_ledger(
    nodes: Sequence[NodeView], policy: Policy, now: float, states: States | None = None
) -> ReservationLedger:
    """The rooms new work may go to: not where a node is saturated, nor where other processes will soon be back."""
    closed = {name for name, state in (states or {}).items() if state.is_saturated}
    return ReservationLedger(nodes, policy, now, closed=closed, margins=_margins(nodes, policy, states or {}))


def resuming_ledger(
    nodes: Sequence[NodeView], policy: Policy, now: float, states: States | None = None
) -> ReservationLedger:
    """The rooms parked work may go to: at the resume threshold, and not where a node is cooling down either."""
    closed = {name for name, state in (states or {}).items() if not state.takes_parked_work(now)}
    return ReservationLedger(
        nodes, policy, now, resuming=True, closed=closed, margins=_margins(nodes, policy, states or {})
    )


def _margins(nodes: Sequence[NodeView], policy: Policy, states: States) -> dict[str, dict[Resource, int]]:
    return {
        node.name: dict(margin)
        for node in nodes
        if node.name in states and (margin := states[node.name].margin(node, policy))
    }
