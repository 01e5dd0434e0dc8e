"""A node's remembered state as JSON values, for whoever shares it between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pause_manager.capacity.room import Resource
from pause_manager.capacity.strangers import Swing
from pause_manager.capacity.yielding import NodeState


def dump(state: NodeState) -> dict[str, Any]:
    """``state`` as JSON values."""
    values = {name: value for name, value in vars(state).items() if name not in ("swing", "yielding")}
    swing = state.swing
    return {
        **values,
        "yielding": list(state.yielding),
        "swing": {"since": swing.since, "before": _dump(swing.before), "latest": _dump(swing.latest)},
    }


def load(values: Mapping[str, Any]) -> NodeState:
    """The state that ``dump`` wrote."""
    swing = values["swing"]
    state = NodeState(**{name: value for name, value in values.items() if name not in ("swing", "yielding")})
    return replace(
        state,
        yielding=tuple(values["yielding"]),
        swing=Swing(swing["since"], _load(swing["before"]), _load(swing["latest"])),
    )


def _dump(peaks: Mapping[Resource, int]) -> list[list[str | int]]:
    return [[kind, index, peak] for (kind, index), peak in peaks.items()]


def _load(peaks: list[list[Any]]) -> dict[Resource, int]:
    return {(kind, index): peak for kind, index, peak in peaks}
