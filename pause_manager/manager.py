"""The verbs of the pause manager for those who call it: may this start, withhold it, send on what waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from pause_manager import holds, pause_queue, workloads
from pause_manager.actor import Actor
from pause_manager.errors import InvalidHold
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue.admission import DECISIONS, admit_on, judge, should_pause, suits_here, verdicts
from pause_manager.pause_queue.poller import Poll, poll
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.scopes import is_run

__all__ = [
    "DECISIONS",
    "Poll",
    "WithheldDispatch",
    "admit_on",
    "force_pause",
    "force_resume",
    "judge",
    "pause_work",
    "poll",
    "resume_paused_work",
    "should_pause",
    "suits_here",
    "verdicts",
]


def pause_work(items: Sequence[WithheldDispatch], *, reason: str, details: dict[str, Any] | None = None) -> int:
    """Withhold the dispatches: an entry each, and a capacity hold on those that are runs. Returns how many wait."""
    return pause_queue.park(items, reason=reason, details=details or {})


def resume_paused_work() -> int:
    """One poll; returns how many entries were sent on."""
    return poll().sent


def force_resume(entry_id: int, *, actor: Actor, reason: str = "") -> bool:
    """Send one entry on whatever the capacity says; False if it does not wait any more."""
    with transaction.atomic():
        entry = PauseQueueEntry.objects.waiting().filter(pk=entry_id)
        ref = entry.values_list("ref", flat=True).first()
        if ref is None:
            return False
        holds.lock([ref])
        if not entry.exists():
            return False
        workloads.ignore_capacity([ref])
        details = {entry_id: {"forced": True}}
        return bool(pause_queue.send_on([entry_id], actor=actor, reason=reason or "forced", details=details))


def force_pause(entry_id: int, *, actor: Actor, reason: str = "") -> bool:
    """Hold the run that waits in an entry until an operator resumes it; it keeps its place. False if it does not wait.

    Raises ``InvalidHold`` if what waits is not a run: only a run can be held.
    """
    with transaction.atomic():
        ref = PauseQueueEntry.objects.waiting().filter(pk=entry_id).values_list("ref", flat=True).first()
        if ref is None:
            return False
        if not is_run(ref):
            raise InvalidHold(f"Cannot force-pause entry {entry_id}: {ref} is not a run, and only runs are held.")
        holds.lock([ref])
        if not PauseQueueEntry.objects.waiting().filter(pk=entry_id).exists():
            return False
        holds.place([ref], actor=actor, reason=reason)
        return True
