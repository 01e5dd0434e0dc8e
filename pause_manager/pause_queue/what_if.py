"""What another threshold would do now, from one look at the fleet. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pause_manager import capacity
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import heads
from pause_manager.pause_queue.admission import FleetSnapshot, take_snapshot

LOOKED_AT = 200
"""Entries of the pause queue, the foremost, that are asked for."""


@dataclass(frozen=True)
class Effect:
    """What would be so with another threshold."""

    would_resume: int
    """Entries that have room then and have none now, each asked for alone."""
    would_wait: int
    """Entries that have room now and would have none then."""
    looked_at: int
    waiting: int

    @property
    def sentence(self) -> str:
        """For people."""
        of = "" if self.looked_at == self.waiting else f" (of the first {self.looked_at:,} that wait)"
        if not self.waiting:
            return "Nothing waits for capacity now, so nothing would change at once."
        if self.would_resume:
            return f"{_entries(self.would_resume)} would have room now{of}."
        if self.would_wait:
            return f"{_entries(self.would_wait)} would have to wait on{of}."
        return f"It would change nothing for what waits now{of}."


def of_node(node: str, share: float) -> Effect:
    """The effect of ``share`` as the threshold of ``node``."""
    fleet = take_snapshot()
    views = [replace(view, pause_below=share) if view.name == node else view for view in fleet.views]
    return _compared(fleet, views, fleet.watch.policy_of)


def of_pipeline(pipeline: str, share: float) -> Effect:
    """The effect of ``share`` as the threshold of the work of ``pipeline``."""
    fleet = take_snapshot()

    def policy_of(name: str) -> Policy:
        policy = fleet.watch.policy_of(name)
        return policy.with_pause_below(share) if name == pipeline else policy

    return _compared(fleet, fleet.views, policy_of)


def _compared(fleet: FleetSnapshot, views: list[NodeView], policy_of: Callable[[str], Policy]) -> Effect:
    entries = heads.foremost(LOOKED_AT, fleet.watch.policy_of().ageing_seconds)[:LOOKED_AT]
    headrooms = capacity.Headrooms(fleet.now)
    would_resume = would_wait = 0
    for entry in entries:
        now = _waits(fleet, fleet.views, entry, fleet.watch.policy_of(entry.pipeline), fleet.headrooms)
        then = _waits(fleet, views, entry, policy_of(entry.pipeline), headrooms)
        would_resume += now and not then
        would_wait += then and not now
    return Effect(would_resume, would_wait, len(entries), PauseQueueEntry.objects.waiting().count())


def _waits(
    fleet: FleetSnapshot, views: list[NodeView], entry: heads.Entry, policy: Policy, headrooms: capacity.Headrooms
) -> bool:
    # Parked work resumes at the upper threshold, not at that of new work.
    resuming = replace(policy, pause_below=policy.resume_above)
    gap = policy.gap
    raised = [
        view if view.pause_below is None else replace(view, pause_below=min(1.0, view.pause_below + gap))
        for view in views
    ]
    return capacity.should_pause(raised, entry.needs, resuming, fleet.now, entry.queue, headrooms).should_pause


def _entries(count: int) -> str:
    return "1 entry that waits" if count == 1 else f"{count:,} entries that wait"
