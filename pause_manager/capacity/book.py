"""The rooms of many nodes at one time, with reservations made as one goes."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pause_manager.capacity.policy import Policy
from pause_manager.capacity.room import Margin, Room, is_readable, room
from pause_manager.needs import Needs
from pause_manager.views import NodeView

_Key = tuple[bool, float, str]


@dataclass(frozen=True)
class Placement:
    """A node, the GPUs there, and the free share it had before."""

    node: str
    gpus: tuple[int, ...] = ()
    share: float = 0.0


class Book:
    """Rooms that shrink with each placement, so that one free slot is given once (P-38).

    ``resuming`` asks for the resume threshold; ``margins`` (by node) is what must be left beside the work.
    ``rooms`` are rooms measured before, if there are any.
    """

    def __init__(
        self,
        nodes: Iterable[NodeView],
        policy: Policy,
        now: float,
        *,
        resuming: bool = False,
        margins: Mapping[str, Margin] | None = None,
        rooms: Mapping[str, Room] | None = None,
    ) -> None:
        self._policy = policy
        self._resuming = resuming
        self._margins = margins or {}
        self.nodes = {node.name: node for node in nodes if is_readable(node, now, policy)}
        self.rooms = {
            name: rooms[name].copy() if rooms and name in rooms else room(node, now, policy)
            for name, node in self.nodes.items()
        }
        self._heaps: dict[Needs, list[_Key]] = {}

    def place(self, needs: Needs, barred: Collection[str] = ()) -> Placement | None:
        """Reserve ``needs`` where most is free (nodes without GPUs first for work without); None if nowhere."""
        heap = self._heap(needs)
        aside: list[_Key] = []
        found: Placement | None = None
        while heap:
            key = heapq.heappop(heap)
            name = key[2]
            if name in barred:
                aside.append(key)
                continue
            now_key = self._key(needs, name)
            if now_key is None:
                continue
            if now_key > key:
                heapq.heappush(heap, now_key)
                continue
            found = self._take(needs, name, -key[1])
            now_key = self._key(needs, name)
            if now_key is not None:
                heapq.heappush(heap, now_key)
            break
        for key in aside:
            heapq.heappush(heap, key)
        return found

    def _heap(self, needs: Needs) -> list[_Key]:
        heap = self._heaps.get(needs)
        if heap is None:
            keys = (self._key(needs, name) for name in self.rooms)
            heap = self._heaps[needs] = [key for key in keys if key is not None]
            heapq.heapify(heap)
        return heap

    def _key(self, needs: Needs, name: str) -> _Key | None:
        left = self.rooms[name]
        threshold = self._threshold(name)
        share = left.share(needs)
        if share is None or share.is_below(threshold) or not left.fits(needs, threshold, self._margins.get(name)):
            return None
        return (bool(left.gpus) and not needs.gpus, -float(share), name)

    def _threshold(self, name: str) -> float:
        own = self.nodes[name].pause_below
        return self._policy.resume_threshold(own) if self._resuming else self._policy.pause_threshold(own)

    def _take(self, needs: Needs, name: str, share: float) -> Placement:
        left = self.rooms[name]
        gpus = left.gpus_for(needs, self._threshold(name), self._margins.get(name))
        if gpus is None:
            raise AssertionError(f"{name} was said to fit {needs}")
        left.take(needs, gpus)
        return Placement(name, gpus, share)
