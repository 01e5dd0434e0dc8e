"""The rooms of many nodes at one time, with reservations made as one goes."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pause_manager.capacity.policy import Policy
from pause_manager.capacity.room import Margin, Room, is_readable, pause_threshold, resume_threshold, room
from pause_manager.needs import Needs
from pause_manager.views import NodeView

_Key = tuple[bool, float, str]
_Kind = tuple[Needs, Policy, str]


@dataclass(frozen=True)
class Placement:
    """A node, the ids of the GPUs there, and the free share it had before."""

    node: str
    gpus: tuple[str, ...] = ()
    share: float = 0.0


@dataclass
class _Order:
    """The nodes one kind of needs fits on, best first; a key that is no longer current is dropped when it comes up."""

    heap: list[_Key]
    current: dict[str, _Key]
    read: int
    """How far into the book's list of touched nodes this order has caught up."""


class Book:
    """Rooms that shrink with each placement, so that one free slot is given once (P-38).

    ``policy`` is the fleet's; work that has one of its own is placed by the thresholds of that. ``resuming`` asks for
    the resume threshold; ``margins`` (by node) is what must be left beside the work; ``closed`` nodes take nothing.
    ``refresh`` brings one node up to date, so that a long-lived book costs little.
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
        self.rooms: dict[str, Room] = {}
        self._orders: dict[_Kind, _Order] = {}
        self._touched: list[str] = []
        self._tries: list[dict[str, Room]] = []
        for node in nodes:
            self.views[node.name] = node
            if node.name not in closed:
                self._measure(node, now)

    def refresh(self, node: NodeView, now: float, *, is_closed: bool = False, margin: Margin | None = None) -> None:
        """Measure ``node`` again; reservations made there in this book are forgotten for what the view shows."""
        self._margins[node.name] = margin or {}
        self.views[node.name] = node
        self.nodes.pop(node.name, None)
        self.rooms.pop(node.name, None)
        if not is_closed:
            self._measure(node, now)
        self._touched.append(node.name)

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
            if order.current.get(name) != key:
                heapq.heappop(order.heap)
            elif name in barred:
                aside.append(heapq.heappop(order.heap))
            else:
                found = self._take(kind, name, abs(key[1]))
        for key in aside:
            heapq.heappush(order.heap, key)
        return found

    def reserve(self, needs: Needs, placement: Placement, queue: str = "") -> None:
        """Make the reservation that another book made for ``needs``; nothing if the node is not in this one."""
        left = self.rooms.get(placement.node)
        if left is not None:
            self._keep_for_undo(placement.node)
            left.take(needs, placement.gpus, queue)
            self._touched.append(placement.node)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Forget at the end of the block what was reserved in it. Blocks may be nested."""
        self._tries.append({})
        try:
            yield
        finally:
            for name, before in self._tries.pop().items():
                self.rooms[name] = before
                self._touched.append(name)

    def _keep_for_undo(self, name: str) -> None:
        if self._tries and name not in self._tries[-1]:
            self._tries[-1][name] = self.rooms[name].copy()

    def margin_of(self, node: str) -> Margin | None:
        """What is to be left free there beside new work."""
        return self._margins.get(node)

    def _measure(self, node: NodeView, now: float) -> None:
        if is_readable(node, now, self._policy):
            self.nodes[node.name] = node
            self.rooms[node.name] = room(node, now, self._policy)

    def _order(self, kind: _Kind) -> _Order:
        order = self._orders.get(kind)
        end = len(self._touched)
        if order is None or end - order.read > len(self.rooms):
            keys = {name: key for name in self.rooms if (key := self._key(kind, name)) is not None}
            order = self._orders[kind] = _Order(list(keys.values()), keys, end)
            heapq.heapify(order.heap)
        else:
            for name in set(self._touched[order.read :]):
                self._rank(kind, order, name)
            order.read = end
        return order

    def _rank(self, kind: _Kind, order: _Order, name: str) -> None:
        key = self._key(kind, name)
        if key is None:
            order.current.pop(name, None)
        elif order.current.get(name) != key:
            order.current[name] = key
            heapq.heappush(order.heap, key)

    def _key(self, kind: _Kind, name: str) -> _Key | None:
        left = self.rooms.get(name)
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

    def _take(self, kind: _Kind, name: str, share: float) -> Placement:
        left = self.rooms[name]
        needs, policy, queue = kind
        gpus = left.gpus_for(needs, self._threshold(name, policy), self._margins.get(name), queue)
        if gpus is None:
            raise AssertionError(f"{name} was said to fit {needs}")
        self._keep_for_undo(name)
        left.take(needs, gpus, queue)
        self._touched.append(name)
        return Placement(name, gpus, share)
