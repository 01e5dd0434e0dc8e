"""``TryLater`` of a resource: all who use it let it alone until it may be asked again, and the item counts nothing.

Without a resource only the item waits, see ``postponement``.
"""

from __future__ import annotations

import logging

from automation.errors import TryLater
from automation.models import StageRun
from automation.pipeline.definition import Definition
from automation.worker.postponement import told
from pause_manager import resources, times
from pause_manager.actor import SYSTEM, Actor
from pause_manager.holds.stops import Stop
from pause_manager.observability import audit

logger = logging.getLogger("automation.worker.throttling")


def resource_of(stage: Definition, later: TryLater) -> str | None:
    """The resource that ``later`` is about: the one it names, or the only one that ``stage`` uses.

    One that the stage does not declare is nobody's to hold: that is logged, and the item waits alone.
    """
    if later.resource is None:
        return stage.uses[0] if len(stage.uses) == 1 else None
    if later.resource and later.resource not in stage.uses:
        listed = ", ".join(stage.uses) or "none"
        logger.error("Cannot hold resource %r: stage %s expected one of its uses (%s).", later.resource, stage, listed)
    return later.resource if later.resource in stage.uses else None


def throttle(stage_run: StageRun, key: str, name: str, later: TryLater) -> Stop:
    """Hold the resource ``name`` because of item ``key``; why its loop stops."""
    pipeline = stage_run.run.pipeline
    # What it said is the run's own: the hold is seen by all.
    actor = Actor(f"stage:{pipeline}/{stage_run.slug}", "worker")
    outcome = resources.throttle(name, later.seconds, actor=actor, told=f"stage {stage_run.slug} of {pipeline}")
    sentence = f"Resource {name} said “too much” and is asked again at {times.written(outcome.until)}."
    if outcome.is_new:
        audit.record(
            "resource_throttled",
            scope=stage_run.run.scope,
            actor=SYSTEM,
            reason=f"{stage_run.slug}: {key}: {sentence} {told(later)}",
            details={"stage": stage_run.slug, "item": key, "resource": name, "seconds": later.seconds},
        )
    return Stop("held", sentence)
