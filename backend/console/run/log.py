"""A run's log as sentences: what belongs to one act stands together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from pause_manager.models import ControlEvent, Hold

FOLLOWS = {
    "start_requested": ("create", "start"),
    "start": ("create", "start_requested"),
    "settled": ("hold_placed",),
    "stopped": ("hold_placed", "cancel_requested"),
    "parked": ("hold_placed",),
    "went_on": ("hold_released",),
    "continued": ("hold_released",),
    "sent_on": ("hold_released", "forced"),
    "forced": ("hold_released",),
    "complete": ("stage_completed",),
    "cancel": ("cancel_requested",),
}
"""Events that are part of the act of an earlier one, within ``TOGETHER`` seconds."""
TOGETHER = 120.0
_SLICES = re.compile(r"^(.*[\d,]+ items?) in [\d,]+ slices?$")
_ACTS = {
    "create": "Created",
    "prepared": "Items copied from the run that it retries",
    "start_requested": "Asked to start",
    "start": "Started",
    "stage_started": "Stage started",
    "stage_completed": "Stage completed",
    "complete": "Completed",
    "fail": "Failed",
    "cancel_requested": "Cancel requested",
    "cancel": "Cancelled",
    "retry": "Retried",
    "hold_placed": "Paused",
    "hold_altered": "Pause changed",
    "hold_released": "Resumed",
    "hold_overdue": "Pause overdue",
    "settled": "All work stopped",
    "went_on": "Work resumed",
    "continued": "Work resumed",
    "parked": "Began to wait",
    "sent_on": "Dispatched",
    "dropped": "No longer waits",
    "forced": "Started regardless of capacity",
    "stopped": "A worker stopped",
    "worker_lost": "A worker was lost",
    "item_given_up": "An item failed",
    "item_waits": "An item waits to be tried again",
    "overrun": "An item exceeded its time",
    "loop_failed": "A worker failed",
    "asked": "Asked",
    "answered": "Answered",
}
BAD = frozenset({"fail", "worker_lost", "loop_failed", "item_given_up", "overrun", "out_of_memory", "job_failed"})
HELD = frozenset({"hold_placed", "parked", "hold_overdue"})


@dataclass
class Entry:
    """One act: a sentence, when, by whom, and what came of it."""

    at: datetime
    sentence: str
    reason: str
    actor: str
    channel: str
    kind: str
    times: int = 1
    then: list[str] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)
    """(title, JSON) of each event."""


def entries_of(events: Sequence[ControlEvent], titles: Mapping[str, str]) -> list[Entry]:
    """The acts of ``events``, which are newest first; newest first, too. ``titles`` are those of stages by slug."""
    entries: list[tuple[ControlEvent, Entry]] = []
    for event in reversed(events):
        head = next((one for one in reversed(entries) if _belongs(event, one[0])), None)
        alike = entries[-1] if entries and _is_alike(event, entries[-1][0]) else None
        if head is not None:
            if event.action != "stopped":
                head[1].then.append(_then(event, head[0]))
            head[1].details += _details(event)
        elif alike is not None:
            alike[1].times += 1
            alike[1].at = event.at
        else:
            entries.append((event, _entry(event, titles)))
    return [entry for _, entry in reversed(entries)]


def act_of(event: ControlEvent) -> str:
    """The event in words."""
    if event.details.get("kind") in (Hold.Kind.CAPACITY, Hold.Kind.THROTTLED, Hold.Kind.WINDOW):
        words = {"hold_placed": "Waits", "hold_released": "Wait over"}
        return words.get(event.action, _word(event.action))
    return _word(event.action)


def _word(action: str) -> str:
    return _ACTS.get(action, action.replace("_", " ").capitalize())


def _belongs(event: ControlEvent, head: ControlEvent) -> bool:
    if head.action not in FOLLOWS.get(event.action, ()):
        return False
    return (event.at - head.at).total_seconds() <= TOGETHER


def _is_alike(event: ControlEvent, other: ControlEvent) -> bool:
    return (event.action, event.reason, event.actor, event.channel) == (
        other.action,
        other.reason,
        other.actor,
        other.channel,
    )


def _entry(event: ControlEvent, titles: Mapping[str, str]) -> Entry:
    kind = "bad" if event.action in BAD else "held" if event.action in HELD else ""
    return Entry(
        event.at, act_of(event), _told(event.reason, titles), event.actor, event.channel, kind, details=_details(event)
    )


def _told(reason: str, titles: Mapping[str, str]) -> str:
    """A reason with the titles of stages, and without how its items are handed out."""
    slug, separator, rest = reason.partition(": ")
    told = f"{titles[slug]}: {rest}" if separator and slug in titles else reason
    return _SLICES.sub(r"\1", told)


def _then(event: ControlEvent, head: ControlEvent) -> str:
    seconds = (event.at - head.at).total_seconds()
    after = "at once" if seconds < 1 else f"after {_duration(seconds)}"
    workers = {one.get("worker") for one in head.details.get("in_flight", []) if isinstance(one, dict)}
    if event.action == "settled":
        count = f" ({len(workers)} worker{'s' if len(workers) != 1 else ''})" if workers else ""
        return f"all work stopped {'at once' if seconds < 1 else f'in {_duration(seconds)}'}{count}"
    word = act_of(event)
    return f"{word[0].lower()}{word[1:]} {after}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def _details(event: ControlEvent) -> list[tuple[str, str]]:
    told: dict[str, Any] = {name: value for name, value in event.details.items() if value not in (None, "", [], {})}
    return [(event.action, orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())] if told else []
