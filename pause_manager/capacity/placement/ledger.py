"""The rooms of many nodes at one time, with reservations made as one goes."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pause_manager.capacity.foreign import would_fit_alone
from pause_manager.capacity.headroom import Headroom, Margin
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import headroom, is_readable, pause_threshold, resume_threshold
from pause_manager.capacity.placement.eligible import can_ever_run
from pause_manager.capacity.placement.index import NodeIndex
from pause_manager.capacity.placement.queue_line import Kind
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView

_Key = tuple[bool, float, str]


@dataclass(frozen=True)
class Placement:
    """A node, the ids of the GPUs there, and the free share it had before."""

    node: str
    gpus: tuple[str, ...] = ()
    share: float = 0.0


@dataclass
class _Order:
    """The nodes one kind of needs fits on, best first; a key that is no longer current is dropped when it comes up."""

    keys: NodeIndex[_Key]
    heap: list[_Key] = field(default_factory=list)


class ReservationLedger:
    """Rooms that shrink with each placement, so that one free slot is given once (P-38).

    ``policy`` is the fleet's; work that has one of its own is placed by the thresholds of that. ``resuming`` asks for
    the resume threshold; ``margins`` (by node) is what must be left beside the work; ``closed`` nodes take nothing.
    ``refresh`` brings one node up to date, so that a long-lived ledger costs little.
    """

    def __init__(
        self,
        nodes: Iterable[NodeView],
        policy: Policy,
        now: float,
        *,
        resuming: bool = False,
        closed: Collection[str] = (),
        margins: Mapping[str, Margin] | None = None,
    ) -> None:
        self._policy = policy
        self._resuming = resuming
        self._margins: dict[str, Margin] = dict(margins or {})
        self.views: dict[str, NodeView] = {}
        """All nodes, also those that are closed or not readable; ``nodes`` and ``rooms`` have the others."""
        self.nodes: dict[str, NodeView] = {}
        self.headrooms: dict[str, Headroom] = {}
        self._orders: dict[Kind, _Order] = {}
        self._alone: dict[Kind, NodeIndex[float]] = {}
        self.touched: list[str] = []
        """Nodes in the order in which anything was changed about them, each as often as it was."""
        self._tries: list[dict[str, Headroom]] = []
        for node in nodes:
            self.views[node.name] = node
            if node.name not in closed:
                self._measure(node, now)

    def refresh(self, node: NodeView, now: float, *, is_closed: bool = False, margin: Margin | None = None) -> None:
        """Measure ``node`` again; reservations made there in this ledger are forgotten for what the view shows."""
        self._margins[node.name] = margin or {}
        self.views[node.name] = node
        self.nodes.pop(node.name, None)
        self.headrooms.pop(node.name, None)
        if not is_closed:
            self._measure(node, now)
        self.touched.append(node.name)

    def place(
        self, needs: Needs, barred: Collection[str] = (), policy: Policy | None = None, queue: str = ""
    ) -> Placement | None:
        """Reserve ``needs`` where the policy packs or spreads it to (work without GPUs first to nodes without).

        Only where a live worker serves ``queue``, if that is named.
        """
        kind = (needs, policy or self._policy, queue)
        order = self._order(kind)
        aside: list[_Key] = []
        found: Placement | None = None
        while order.heap and found is None:
            key = order.heap[0]
            name = key[2]
            if order.keys.values.get(name) != key:
                heapq.heappop(order.heap)
            elif name in barred:
                aside.append(heapq.heappop(order.heap))
            else:
                found = self._take(kind, name, abs(key[1]))
        for key in aside:
            heapq.heappush(order.heap, key)
        return found

    def reserve(self, needs: Needs, placement: Placement, queue: str = "") -> None:
        """Make the reservation that another ledger made for ``needs``; nothing if the node is not in this one."""
        left = self.headrooms.get(placement.node)
        if left is not None:
            self._keep_for_undo(placement.node)
            left.take(needs, placement.gpus, queue)
            self.touched.append(placement.node)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Forget at the end of the block what was reserved in it. Blocks may be nested."""
        self._tries.append({})
        try:
            yield
        finally:
            for name, before in self._tries.pop().items():
                self.headrooms[name] = before
                self.touched.append(name)

    def _keep_for_undo(self, name: str) -> None:
        if self._tries and name not in self._tries[-1]:
            self._tries[-1][name] = self.headrooms[name].copy()

    def margin_of(self, node: str) -> Margin | None:
        """Return what is to be left free there beside new work."""
        return self._margins.get(node)

    def _measure(self, node: NodeView, now: float) -> None:
        if is_readable(node, now, self._policy):
            self.nodes[node.name] = node
            self.headrooms[node.name] = headroom(node, now, self._policy)

    def shares_alone(self, kind: Kind) -> Mapping[str, float]:
        """The nodes on which other processes leave room for work of ``kind``, each with the share that is free now."""
        index = self._alone.get(kind)
        if index is None:
            index = self._alone[kind] = NodeIndex(self.views, self.touched)
        index.catch_up(lambda name: self._share_alone(kind, name))
        return index.values

    def _share_alone(self, kind: Kind, name: str) -> float | None:
        node = self.nodes.get(name)
        needs, policy, queue = kind
        if node is None or not can_ever_run(node, needs, queue):
            return None
        share = self.headrooms[name].share(needs, queue)
        return float(share) if share is not None and would_fit_alone(node, needs, policy, queue) else None

    def _order(self, kind: Kind) -> _Order:
        order = self._orders.get(kind)
        if order is None:
            order = self._orders[kind] = _Order(NodeIndex(self.views, self.touched))
        values = order.keys.values
        changed = order.keys.catch_up(lambda name: self._key(kind, name))
        if not order.heap or len(order.heap) + len(changed) > 2 * len(values):
            order.heap = list(values.values())
            heapq.heapify(order.heap)
        else:
            for name in changed:
                if name in values:
                    heapq.heappush(order.heap, values[name])
        return order

    def _key(self, kind: Kind, name: str) -> _Key | None:
        left = self.headrooms.get(name)
        needs, policy, queue = kind
        if left is None or not self.nodes[name].serves(queue):
            return None
        threshold = self._threshold(name, policy)
        share = left.share(needs, queue)
        if share is None or share.is_below(threshold):
            return None
        if not left.fits(needs, threshold, self._margins.get(name), queue):
            return None
        freest_last = float(share) if policy.packs else -float(share)
        return (bool(left.gpus) and not needs.gpus, freest_last, name)

    def _threshold(self, name: str, policy: Policy) -> float:
        return (resume_threshold if self._resuming else pause_threshold)(self.nodes[name], policy)

    def _take(self, kind: Kind, name: str, share: float) -> Placement:
        left = self.headrooms[name]
        needs, policy, queue = kind
        gpus = left.gpus_for(needs, self._threshold(name, policy), self._margins.get(name), queue)
        if gpus is None:
            raise AssertionError(f"{name} was said to fit {needs}")
        self._keep_for_undo(name)
        left.take(needs, gpus, queue)
        self.touched.append(name)
        return Placement(name, gpus, share)
