"""What is kept of a watched node, so that polls, admissions and the next sampler know what the last one saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pause_manager.capacity import Adaptation, Idle, NodeState
from pause_manager.capacity.foreign import Swing
from pause_manager.capacity.headroom import Resource

_STATE = ("is_saturated", "contended_at", "cooldown", "cooldown_until")


@dataclass(frozen=True)
class KeptWatch:
    """The node's state as far as it outlives a sampler, and its adapted threshold, if the mode has set one."""

    state: NodeState = field(default_factory=NodeState)
    adaptation: Adaptation | None = None
    idle: Idle = field(default_factory=Idle)
    """What our processes occupy there when idle."""
    oom_kills: int | None = None
    """How many kills for want of memory have been told of."""

    def has_only_swung(self, before: KeptWatch | None) -> bool:
        """Whether nothing but the strangers' swing and the idle processes' memory differs from ``before``."""
        if before is None:
            return False
        return replace(self, idle=before.idle, state=replace(self.state, swing=before.state.swing)) == before

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        swing = self.state.swing
        kept: dict[str, Any] = {name: getattr(self.state, name) for name in _STATE}
        kept["oom_kills"] = self.oom_kills
        kept["swing"] = {"since": swing.since, "before": _listed(swing.before), "latest": _listed(swing.latest)}
        if idle := self.idle.as_list():
            kept["idle"] = idle
        if self.adaptation is not None:
            kept["adaptation"] = vars(self.adaptation)
        return kept

    @classmethod
    def of_dict(cls, kept: Mapping[str, Any]) -> KeptWatch:
        """The watch of :meth:`as_dict`; of what another version wrote, what is known."""
        swing = kept.get("swing", {})
        state = NodeState(
            **{name: kept[name] for name in _STATE if name in kept},
            swing=Swing(swing.get("since", 0.0), _mapped(swing.get("before", ())), _mapped(swing.get("latest", ()))),
        )
        adaptation = Adaptation(**kept["adaptation"]) if kept.get("adaptation") else None
        return cls(state, adaptation, Idle.of_list(kept.get("idle", ())), kept.get("oom_kills"))


def _listed(amounts: Mapping[Resource, int]) -> list[list[Any]]:
    return [[*resource, amount] for resource, amount in sorted(amounts.items()) if amount]


def _mapped(listed: Any) -> dict[Resource, int]:
    # Before GPUs were booked by UUID, -1 was the machine and any other number the index of a GPU: it may have moved.
    named = ((kind, "" if which == -1 else which, amount) for kind, which, amount in listed)
    return {(kind, which): amount for kind, which, amount in named if isinstance(which, str)}
