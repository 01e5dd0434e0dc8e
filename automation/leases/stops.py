"""The event that says where in a stage work stopped, and why: of loops and of agents alike."""

from __future__ import annotations

from automation.items.leased_slice import LeasedSlice
from automation.models import StageRun
from pause_manager.actor import Actor
from pause_manager.holds.stops import Stop
from pause_manager.observability import audit


def record(stage_run: StageRun, work: LeasedSlice | None, stop: Stop, *, worker: str, actor: Actor) -> None:
    """Record that ``worker`` has stopped; ``work`` is the slice that it has given back, if it had one."""
    after = f" after item {work.cursor}" if work is not None and work.cursor else ""
    audit.record(
        "stopped",
        scope=stage_run.run.scope,
        actor=actor,
        reason=f"{stage_run.slug}: stopped{after}: {stop.sentence}",
        details={
            "code": stop.code,
            "stage": stage_run.slug,
            "slice": work.slice_id if work is not None else None,
            "cursor": work.cursor if work is not None else None,
            "worker": worker,
        },
    )
