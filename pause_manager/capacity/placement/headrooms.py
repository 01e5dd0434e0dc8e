"""The rooms of many nodes at one time, each measured once for all who compare them."""

from __future__ import annotations

from pause_manager.capacity.headroom import Headroom
from pause_manager.capacity.node_headroom import headroom
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView


class Headrooms:
    """What was left of each node at ``now``. Nobody reserves anything here: see ``ReservationLedger``."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._rooms: dict[tuple[str, float, float, float], Headroom] = {}

    def of(self, node: NodeView, policy: Policy) -> Headroom:
        """The room of ``node``, of which there is one view."""
        key = (node.name, policy.cpu_slack_cores, policy.cpu_slack_share, policy.sensor_lag_seconds)
        found = self._rooms.get(key)
        if found is None:
            found = self._rooms[key] = headroom(node, self._now, policy)
        return found
