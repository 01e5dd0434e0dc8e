"""Nodes that are kept free for work that other work was asked to make room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pause_manager.capacity.foreign import would_fit_alone
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.placement.eligible import can_ever_run
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView


@dataclass(frozen=True)
class ReservedNode:
    """``node`` takes nothing but work with ``needs`` until that has started there, at most until ``until``."""

    node: str
    needs: Needs
    ref: str
    """The entry that the room was made for; another with the same needs may have it if it is first in line."""
    since: float
    until: float
    moves: int = 0
    """How many pieces of work were asked to leave it."""

    def is_over(self, view: NodeView | None, policy: Policy, now: float) -> bool:
        """Whether it is kept no longer: the node is gone, other processes have come there, or it has taken too long."""
        return now >= self.until or view is None or not would_fit_alone(view, self.needs, policy)


def still_reserved(
    kept: Iterable[ReservedNode], views: Mapping[str, NodeView], policy: Policy, now: float
) -> list[ReservedNode]:
    """Those of ``kept`` that are not over."""
    return [one for one in kept if not one.is_over(views.get(one.node), policy, now)]


def has_node(reserved_nodes: Mapping[str, Needs], needs: Needs, queue: str, views: Mapping[str, NodeView]) -> bool:
    """Whether one of the nodes in ``held`` is kept for work with ``needs`` that workers of ``queue`` there can do."""
    return any(
        kept == needs and node in views and can_ever_run(views[node], needs, queue)
        for node, kept in reserved_nodes.items()
    )


def barred_for(reserved_nodes: Mapping[str, Needs], needs: Needs) -> set[str]:
    """The nodes of ``held`` (by name, with the needs they are held for) that work with ``needs`` may not have."""
    return {node for node, kept in reserved_nodes.items() if kept != needs}
