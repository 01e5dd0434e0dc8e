"""The rooms of many nodes at one time, each measured once for all who compare them."""

from __future__ import annotations

from pause_manager.capacity.headroom import Room, headroom
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView


class Rooms:
    """What was left of each node at ``now``. Nobody reserves anything here: see ``Book``."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._rooms: dict[tuple[str, float, float, float], Room] = {}

    def of(self, node: NodeView, policy: Policy) -> Room:
        """The room of ``node``, of which there is one view."""
        key = (node.name, policy.cpu_slack_cores, policy.cpu_slack_share, policy.settle_seconds)
        found = self._rooms.get(key)
        if found is None:
            found = self._rooms[key] = headroom(node, self._now, policy)
        return found
