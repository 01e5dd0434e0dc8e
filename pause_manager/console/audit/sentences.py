"""Events as sentences for people: who did what to which thing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pause_manager import scopes
from pause_manager.console import links
from pause_manager.console.links import Link
from pause_manager.models import ControlEvent, Hold

_phrases: dict[str, str] = {
    "audit_erased": "erased old events",
    "capacity_unwatched": "switched the watch of capacity off",
    "capacity_watched": "switched the watch of capacity on",
    "changed": "changed {} in the admin",
    "created": "created {} in the admin",
    "deleted": "deleted {}",
    "dropped": "dropped {} from the pause queue",
    "expired": "dropped {}, which had expired",
    "forced": "started {} regardless of capacity",
    "hold_altered": "changed the hold on {}",
    "hold_overdue": "noted that the hold on {} is overdue",
    "hold_placed": "placed a hold on {}",
    "hold_released": "released the hold on {}",
    "known_again": "noted that a worker knows the task of {} again",
    "locked_out": "refused further sign-ins from {}",
    "node_has_room": "gave new work to {} again",
    "node_kept": "reserved {} for large work",
    "node_renamed": "renamed {}",
    "node_saturated": "stopped new work on {}",
    "out_of_memory": "ran out of memory on {}",
    "override_ended": "ended an override of {}",
    "override_set": "overrode a value of {} for a while",
    "parked": "parked {}",
    "pause_refused": "was refused a pause of {}",
    "renamed": "gave {} another task name",
    "rerouted": "gave {} another queue",
    "resource_answered": "heard from {} again",
    "resource_limited": "changed the limit of {}",
    "resource_open": "uses {} as before",
    "resource_throttled": "heard “too much” from {}",
    "resume_refused": "was refused a resume of {}",
    "revoked": "revoked {}",
    "sent_on": "dispatched {}",
    "settled": "stopped all work under the hold on {}",
    "sign_in_failed": "gave a wrong password or token from {}",
    "task_retried": "had {} run again after it failed",
    "threshold_moved": "moved the threshold of {}",
    "threshold_set": "changed the threshold of {}",
    "went_on": "resumed the work of {}",
    "window_changed": "changed a pause window of {}",
    "window_created": "created a pause window of {}",
    "window_deleted": "deleted a pause window of {}",
    "window_skipped": "skipped a pause window of {}",
    "yield_wanted": "asked the work on {} to give way",
}
"""By action, what was done, with ``{}`` for what it was done to."""
WAITS = {"hold_placed": "had {} wait for capacity", "hold_released": "ended the wait of {} for capacity"}
"""A hold for capacity ends by itself: nobody paused or resumed anything."""
LONGEST_VALUE = 300
NOTHING = "–"


def register(phrases: Mapping[str, str]) -> None:
    """Add the phrases of an app's own actions: what was done, with ``{}`` for what it was done to."""
    _phrases.update(phrases)


@dataclass(frozen=True)
class Change:
    """One value that was changed."""

    name: str
    before: str
    after: str

    @property
    def sentence(self) -> str:
        """``width 1 → 2``; of what was not there before, or is not any more, one value."""
        if self.before == NOTHING:
            return f"{self.name} {self.after}"
        return f"{self.name} {self.before} → {self.after}"


@dataclass(frozen=True)
class Told:
    """One event for the page."""

    event: ControlEvent
    said: str
    """What was done, up to the thing that it was done to."""
    subject: Link
    after: str
    """What follows the thing."""
    changes: list[Change]
    facts: list[tuple[str, str]]


def tell(event: ControlEvent) -> Told:
    """Return ``event`` as a sentence, with what changed and what else is known."""
    is_wait = event.details.get("kind") == Hold.Kind.CAPACITY and event.action in WAITS
    phrase = WAITS[event.action] if is_wait else _phrases.get(event.action)
    said, _, after = (phrase or f"{event.action.replace('_', ' ')} ({{}})").partition("{}")
    subject = links.of(event.scope) if phrase is None or "{}" in phrase else Link("")
    subject = replace(subject, title=_title(event, subject.title)) if subject.title else subject
    facts = [(name.replace("_", " "), _short(value)) for name, value in event.details.items()]
    if event.request_id:
        facts.append(("request", event.request_id))
    return Told(event, said, subject, after, _changes(event), facts)


def _title(event: ControlEvent, title: str) -> str:
    """The name of the thing, where the event says it and the scope has a number only."""
    kind, number = scopes.parse(event.scope)
    if not number.isdecimal():
        return "the fleet" if title == "fleet" else title
    name = event.details.get(kind) or (event.after or {}).get("name") or (event.before or {}).get("name")
    return f"{kind} {name}" if isinstance(name, str) and name != number else title


def _changes(event: ControlEvent) -> list[Change]:
    before, after = event.before or {}, event.after or {}
    names = list(dict.fromkeys([*before, *after]))
    return [
        Change(name.replace("_", " "), _short(before.get(name)), _short(after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _short(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
