"""The options of the capacity policy in their groups, as ``PAUSE_MANAGER["policy"]`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Thresholds:
    """When a node has too little left, and what of other processes counts."""

    pause_below: float = 0.20
    """A node whose free share is strictly below this takes no new work."""
    resume_above: float = 0.30
    """A node takes parked work if its free share is at least this."""
    cpu_slack_cores: float = 0.25
    """CPU use of other processes up to this many cores is noise and counts as none."""
    cpu_slack_share: float = 0.02
    """The same as a share of the node's cores; the larger of the two limits applies."""
    peak_seconds: float = 300.0
    """How long the peak of foreign use is remembered when parked work is placed."""
    sensor_lag_seconds: float = 60.0
    """How long an allocation may take to show in the sensor's figures."""


@dataclass(frozen=True)
class Dwell:
    """How long a state must last before anything follows from it."""

    resume_dwell_seconds: float = 15.0
    """A node that was saturated or contended takes parked work once it has had ``resume_above`` for this long."""
    contended_dwell_seconds: float = 5.0
    """Other processes must need what our loops declared for this long before loops give it back."""
    minimum_run_seconds: float = 15.0
    """Of loops of equal priority, one that started more recently than this yields last."""
    yield_patience_seconds: float = 60.0
    """Work that was asked to yield and is still there after this long counts again, and other work is asked."""
    cooldown_seconds: float = 15.0
    """A node whose loops had to yield takes no parked work for this long; doubles when it soon happens again."""


@dataclass(frozen=True)
class Queue:
    """In which order and how fast parked work is sent on."""

    ramp_max: int = 4096
    """Most entries that one poll dispatches; the ramp 1, 2, 4, ... ends there."""
    packs: bool = True
    """Fill the fullest node that may take the work, so that whole nodes stay free; otherwise the emptiest first."""
    ageing_seconds: float = 1800.0
    """An entry gains one step of priority per this time that it waits; 0 switches ageing off."""
    reserve_after_seconds: float = 1800.0
    """An entry that fits nowhere for this long gets a node reserved for it."""


@dataclass(frozen=True)
class Consolidation:
    """Moving small work away for large work that waits."""

    consolidates: bool = True
    """Move small pausable work elsewhere when large work that waits then has room."""
    consolidate_after_seconds: float = 180.0
    """An entry must have waited this long before anything is moved for it."""
    consolidate_every_seconds: float = 60.0
    """How often moving is tried again for an entry while nothing can be moved."""
    move_cooldown_seconds: float = 1800.0
    """Work that was moved is not moved again within this time."""
    move_repeats_seconds: float = 600.0
    """Work that would have to repeat more than this is not moved."""
    move_patience_seconds: float = 300.0
    """How long a node is reserved for large work while what is in its way leaves."""


@dataclass(frozen=True)
class Adaptive:
    """Thresholds of nodes that move with what is observed."""

    adaptive: bool = False
    """Let observations (out of memory, repeated contention) move a node's threshold within the bounds."""
    adaptive_min: float = 0.10
    """Lowest threshold the adaptive mode sets."""
    adaptive_max: float = 0.50
    """Highest threshold the adaptive mode sets."""
    adaptive_window_seconds: float = 3600.0
    """Two contentions within this time count as repeated."""
    adaptive_calm_seconds: float = 21600.0
    """After this long without trouble the threshold goes down by one step."""


GROUPS: Mapping[str, type[Thresholds | Dwell | Queue | Consolidation | Adaptive]] = {
    "thresholds": Thresholds,
    "dwell": Dwell,
    "queue": Queue,
    "consolidation": Consolidation,
    "adaptive": Adaptive,
}
_WITHIN_GROUP = {
    "consolidates": "enabled",
    "consolidate_after_seconds": "after_seconds",
    "consolidate_every_seconds": "every_seconds",
    "adaptive": "enabled",
    "adaptive_min": "min",
    "adaptive_max": "max",
    "adaptive_window_seconds": "window_seconds",
    "adaptive_calm_seconds": "calm_seconds",
}
_RENAMED = {
    "settle_seconds": "sensor_lag_seconds",
    "swing_seconds": "peak_seconds",
    "hold_after_seconds": "reserve_after_seconds",
}
_GONE = {
    "offline_after_seconds": "it is missed_samples x sample_seconds",
    "pressure_share": "it is 0.05",
    "cooldown_max_seconds": "it is 900",
    "adaptive_step": "it is 0.05",
}


def name_within_group(field: str) -> str:
    """What the setting of a field of :class:`Policy` is called in its group."""
    return _WITHIN_GROUP.get(field, field)


def place_of(field: str) -> str:
    """Group and name of a field, as ``dwell.cooldown_seconds``."""
    group = next((group for group, owner in GROUPS.items() if field in _fields_of(owner).values()), None)
    return field if group is None else f"{group}.{name_within_group(field)}"


def ungrouped(groups: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of :class:`Policy` that ``groups`` sets. ``TypeError`` for what is no option, with what is."""
    found: dict[str, Any] = {}
    for group, options in groups.items():
        owner = GROUPS.get(group)
        if owner is None:
            raise TypeError(_why_not_a_group(group))
        if not isinstance(options, Mapping):
            raise TypeError(f"expected a dict of options for {group!r}, got: {options!r}")
        names = _fields_of(owner)
        for name, value in options.items():
            if name not in names:
                raise TypeError(f"{group!r} has no option {name!r}: {_expected(name, list(names))}")
            found[names[name]] = value
    return found


def _fields_of(owner: type[Any]) -> dict[str, str]:
    return {name_within_group(field.name): field.name for field in fields(owner)}


def _why_not_a_group(name: str) -> str:
    if name in _GONE:
        return f"{name} cannot be set: {_GONE[name]}"
    place = place_of(_RENAMED.get(name, name))
    if "." in place:
        group, _, option = place.partition(".")
        return f"{name} is now {option} in a group: {{{group!r}: {{{option!r}: ...}}}}"
    return f"there is no group {name!r}: {_expected(name, list(GROUPS))}"


def _expected(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
