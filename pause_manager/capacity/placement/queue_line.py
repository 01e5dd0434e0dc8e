"""What waits, by kind and priority: who comes first is found without a look at all that wait behind."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pause_manager.capacity.needs import Needs
from pause_manager.capacity.policy import Policy


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry of the pause queue as the policy sees it."""

    ref: str
    needs: Needs
    paused_at: float
    priority: int = 3
    resume_after: float | None = None
    policy: Policy | None = None
    """That of its pipeline; ``None``: the fleet's. Its thresholds and its patience count; the ramp is the fleet's."""
    queue: str = ""
    """The queue whose workers do it; empty: any node will do."""


Rank = tuple[int, float, int]
"""Priority raised by ageing, time, number: who comes first has the smallest."""
Kind = tuple[Needs, Policy, str]
_Lane = list[tuple[float, int, Waiting]]
"""What has one kind and priority, the oldest first: ageing does not change the order."""


class Line:
    """Entries in the order in which they resume. ``policy`` is the fleet's."""

    def __init__(self, policy: Policy, entries: Iterable[Waiting] = ()) -> None:
        self._policy = policy
        self._lanes: dict[Kind, dict[int, _Lane]] = defaultdict(dict)
        self._known: dict[tuple[int, int, str, int], tuple[_Lane, Needs, Policy | None]] = {}
        """The same by identity: to hash needs and a policy takes longer than all the rest. It keeps both alive."""
        self._number = 0
        for entry in entries:
            self.add(entry)

    def add(self, entry: Waiting) -> None:
        """``entry`` comes after what has waited for as long."""
        self._number += 1
        insort(self._lane(entry), (entry.paused_at, self._number, entry))

    def remove(self, entry: Waiting) -> None:
        """It waits no more."""
        lane = self._lane(entry)
        at = bisect_left(lane, (entry.paused_at,))
        while lane[at][2] is not entry:
            at += 1
        del lane[at]

    def kinds(self, now: float) -> list[tuple[Kind, Iterator[tuple[Rank, Waiting]]]]:
        """Return what is due of each kind of needs, policy and queue, in order."""
        return [
            (kind, heapq.merge(*(self._ranked(priority, lane, now) for priority, lane in lanes.items())))
            for kind, lanes in self._lanes.items()
        ]

    def _lane(self, entry: Waiting) -> _Lane:
        key = (id(entry.needs), id(entry.policy), entry.queue, entry.priority)
        known = self._known.get(key)
        if known is None:
            lanes = self._lanes[entry.needs, entry.policy or self._policy, entry.queue]
            known = self._known[key] = (lanes.setdefault(entry.priority, []), entry.needs, entry.policy)
        return known[0]

    def _ranked(self, priority: int, lane: _Lane, now: float) -> Iterator[tuple[Rank, Waiting]]:
        ageing = self._policy.ageing_seconds
        for paused_at, number, entry in lane:
            if entry.resume_after is not None and entry.resume_after > now:
                continue
            urgency = max(1, priority - int((now - paused_at) // ageing)) if ageing else priority
            yield (urgency, paused_at, number), entry
