"""Begin a run, seal a stage, start the next ones: how work moves from stage to stage."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from automation import dispatch, gate
from automation.items import slicing
from automation.models import AutomationRun, Lifecycle, StageRun, WorkSlice
from automation.models.lanes import lock_lane
from automation.models.runs import lock_runs
from automation.pipeline import definition
from automation.reports import item_limits
from automation.runs import failing, start_conditions, transitions
from pause_manager.actor import SYSTEM, Actor
from pause_manager.observability import audit

logger = logging.getLogger("automation.runs.advancing")


def begin(run: AutomationRun, *, actor: Actor, reason: str = "") -> bool:
    """Start a pending run: its first stages are cut and dispatched in the same transaction as the transition.

    Returns False if the gate has closed, no place of its lane is free for it, or a condition is not met, which holds
    it: the run stays pending and starts later. Raises ``TransitionRefused`` if it is no longer pending or is being
    cancelled.
    """
    ready = _ready_after(run, completing=None)
    with transaction.atomic():
        # One at a time starts in a lane: what the gate says of its order stays true until the commit.
        lock_lane(run.lane)
        lock_runs([str(run.pk)])
        run.refresh_from_db()
        if run.cancel_requested_at is not None:
            raise transitions.refusal("start", run.pk)
        if run.lifecycle == Lifecycle.PENDING and not (gate.may_start(run) and start_conditions.meet(run)):
            return False
        transitions.apply(transitions.START, run.pk, actor=actor, reason=reason)
        _start(run, ready)
    _seal_empty(ready)
    return True


def seal(stage_run_id: int) -> bool:
    """Complete a running stage without open slices and start the stages that wait for it; True if this call did.

    A held run is not sealed, even if its last item is done: a paused run does not end by itself.
    """
    # 1. Without a lock: is the stage ready to be sealed?
    stage_run = StageRun.objects.select_related("run").get(pk=stage_run_id)
    if stage_run.lifecycle != Lifecycle.RUNNING or stage_run.slices.open().exists():
        return False
    run = stage_run.run
    if run.stages.undefined().exists():
        return False  # the next stage is not known in this release
    if _has_failed_too_often(stage_run):
        return False
    # 2. Cut the next stages into slices before any lock: the outputs of a stage without open slices are final.
    ready = _ready_after(run, completing=stage_run)
    with transaction.atomic():
        # 3. Lock the run, and look again whether it may continue.
        lock_runs([str(run.pk)])
        run.refresh_from_db()
        if run.lifecycle != Lifecycle.RUNNING or run.cancel_requested_at is not None or run.paused_at is not None:
            return False
        # 4. Complete the stage; if another process did, there is nothing left to do.
        if not transitions.complete_stage(stage_run.pk, run.paused_seconds):
            return False
        audit.record(
            "stage_completed",
            scope=run.scope,
            actor=SYSTEM,
            reason=f"{stage_run.slug}: all items are done",
            details={"stage": stage_run.slug, "total_items": stage_run.total_items},
        )
        # 5. Start the next stages. A parallel branch may have completed since step 2, and a join be ready only now.
        ready += _ready_after(run, completing=stage_run, known={cut.stage_run.slug for cut in ready})
        _start(run, ready)
        # 6. Complete the run with its last stage.
        if not ready and not run.stages.exclude(lifecycle=Lifecycle.COMPLETED).exists():
            limited = [reason.sentence for reason in item_limits.of(run)]
            why = " ".join(["All stages are done.", *limited]) if limited else "all stages are done"
            transitions.apply(transitions.COMPLETE, run.pk, actor=SYSTEM, reason=why)
    # 7. A stage without items has no loop that would seal it.
    _seal_empty(ready)
    return True


def _has_failed_too_often(stage_run: StageRun) -> bool:
    """Fail the run if the worker that saw one failure too many died before it could."""
    stage = definition.of(stage_run)
    return failing.fail_if_too_many(stage_run, stage.max_failures, stage.group_size)


def seal_finished(run_ids: Sequence[UUID | str] | None = None) -> int:
    """Seal every running stage that has no open slice, as after a crash between its last checkpoint and its seal."""
    stages = StageRun.objects.filter(
        ~Exists(WorkSlice.objects.open().filter(stage_run=OuterRef("pk"))),
        lifecycle=Lifecycle.RUNNING,
        run__finished_at__isnull=True,
        run__lifecycle=Lifecycle.RUNNING,
        run__cancel_requested_at__isnull=True,
        run__paused_at__isnull=True,
    )
    if run_ids is not None:
        stages = stages.filter(run__in=[UUID(str(pk)) for pk in run_ids])
    return sum(_sealed(pk) for pk in list(stages.values_list("pk", flat=True)))


def _sealed(stage_run_id: int) -> bool:
    """Seal the stage; an error is logged, so that it does not keep other runs."""
    try:
        return seal(stage_run_id)
    except Exception:
        logger.exception("Stage run %d could not be sealed; continuing with the others.", stage_run_id)
        return False


class _Cut(NamedTuple):
    """A stage that is about to start."""

    stage_run: StageRun
    slices: list[WorkSlice]
    total: int
    left_out: int


_Ready = list[_Cut]


def _ready_after(run: AutomationRun, completing: StageRun | None, known: Collection[str] = ()) -> _Ready:
    """Pending stages whose sources are all complete, counting ``completing`` as such, with their slices.

    Those ``known`` to be ready are left out.
    """
    rows = {stage_run.slug: stage_run for stage_run in run.stages.order_by("position")}
    complete = {slug for slug, row in rows.items() if row.lifecycle == Lifecycle.COMPLETED}
    if completing is not None:
        complete.add(completing.slug)
    ready: _Ready = []
    for slug, row in rows.items():
        if slug in known or row.lifecycle != Lifecycle.PENDING or row.definition is None:
            continue
        stage = definition.of(row)
        if complete.issuperset(stage.sources):
            row.run = run
            ranges, left_out = slicing.cut(row, stage, [rows[source] for source in stage.sources])
            total = sum(found.size for found in ranges)
            ready.append(_Cut(row, slicing.slices_of(row, stage, ranges), total, left_out))
    return ready


def _start(run: AutomationRun, ready: _Ready) -> None:
    for stage_run, slices, total, left_out in ready:
        stage = definition.of(stage_run)
        # Between stages: nothing is before the first.
        delay = stage.stage_delay if stage.after else 0.0
        if transitions.start_stage(stage_run.pk, total, run.paused_seconds, left_out=left_out, delay=delay):
            WorkSlice.objects.bulk_create(slices, batch_size=2_000)
            told = f"{stage_run.slug}: {total} items in {len(slices)} slices"
            if left_out:
                told = item_limits.sentence(stage_run.slug, total, left_out)
            audit.record(
                "stage_started",
                scope=run.scope,
                actor=SYSTEM,
                reason=told,
                details={
                    "stage": stage_run.slug,
                    "total_items": total,
                    "slices": len(slices),
                    **({"left_out": left_out} if left_out else {}),
                },
            )
    dispatch.on_commit([cut.stage_run.pk for cut in ready])


def _seal_empty(ready: _Ready) -> None:
    for cut in ready:
        if not cut.slices:
            seal(cut.stage_run.pk)
