"""What is kept of a watched node, so that polls, admissions and the next sampler know what the last one saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pause_manager.capacity import Adaptation, Idle, NodeState
from pause_manager.capacity.foreign import ForeignPeak
from pause_manager.capacity.headroom import Resource

_STATE = ("is_saturated", "contended_at", "cooldown", "cooldown_until")


@dataclass(frozen=True)
class PersistedNodeState:
    """The node's state as far as it outlives a sampler, and its adapted threshold, if the mode has set one."""

    state: NodeState = field(default_factory=NodeState)
    adaptation: Adaptation | None = None
    idle: Idle = field(default_factory=Idle)
    """What our processes occupy there when idle."""
    oom_kills: int | None = None
    """How many kills for want of memory have been told of."""

    def differs_in_memory_only(self, before: PersistedNodeState | None) -> bool:
        """Return whether nothing but the peak of foreign use and the idle processes' memory differs from ``before``."""
        if before is None:
            return False
        return (
            replace(self, idle=before.idle, state=replace(self.state, foreign_peak=before.state.foreign_peak)) == before
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        foreign_peak = self.state.foreign_peak
        kept: dict[str, Any] = {name: getattr(self.state, name) for name in _STATE}
        kept["oom_kills"] = self.oom_kills
        kept["foreign_peak"] = {
            "since": foreign_peak.since,
            "before": _listed(foreign_peak.before),
            "latest": _listed(foreign_peak.latest),
        }
        if idle := self.idle.as_list():
            kept["idle"] = idle
        if self.adaptation is not None:
            kept["adaptation"] = vars(self.adaptation)
        return kept

    @classmethod
    def of_dict(cls, kept: Mapping[str, Any]) -> PersistedNodeState:
        """The watch of :meth:`as_dict`; of what another version wrote, what is known."""
        foreign_peak = kept.get("foreign_peak", {})
        state = NodeState(
            **{name: kept[name] for name in _STATE if name in kept},
            foreign_peak=ForeignPeak(
                foreign_peak.get("since", 0.0),
                _mapped(foreign_peak.get("before", ())),
                _mapped(foreign_peak.get("latest", ())),
            ),
        )
        adaptation = Adaptation(**kept["adaptation"]) if kept.get("adaptation") else None
        return cls(state, adaptation, Idle.of_list(kept.get("idle", ())), kept.get("oom_kills"))


def _listed(amounts: Mapping[Resource, int]) -> list[list[Any]]:
    return [[*resource, amount] for resource, amount in sorted(amounts.items()) if amount]


def _mapped(listed: Any) -> dict[Resource, int]:
    # Before GPUs were booked by UUID, -1 was the machine and any other number the index of a GPU: it may have moved.
    named = ((kind, "" if which == -1 else which, amount) for kind, which, amount in listed)
    return {(kind, which): amount for kind, which, amount in named if isinstance(which, str)}
