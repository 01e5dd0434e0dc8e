"""What beat asks for every few seconds: bring the world back to what the database says."""

from __future__ import annotations

import logging
from itertools import islice

from automation import (
    checkpoint,
    conf,
    definition,
    dispatch,
    leases,
    lifecycle,
    stage_rows,
    stages,
    standstills,
    time_limits,
)
from automation.checkpoint import Progress
from automation.errors import LeaseLost
from automation.leases import Worker
from automation.models import StageRun, WorkSlice
from automation.units import units_of
from pause_manager import audit, database, machines, metrics
from pause_manager.actor import SYSTEM
from pause_manager.probes import processes

logger = logging.getLogger("automation.maintenance")

RECONCILING = metrics.histogram("slackwater_reconcile_duration_seconds", "How long one reconcile took.")
FAILURES = metrics.counter("slackwater_reconcile_failures_total", "Repairs of a reconcile that failed.", ("part",))
LOST = metrics.counter(
    "slackwater_leases_lost_total",
    "Leases lost by their holders, by why: worker_lost, loop_failed.",
    ("why",),
)


class WorkerLost(Exception):
    """The worker ended while it processed the item."""


def reconcile() -> None:
    """Repair whatever is missing, each part by itself: definitions, starts, seals, ends of cancels, messages."""
    with RECONCILING.timed():
        _reconcile()


def _reconcile() -> None:
    for part in (
        stage_rows.define,
        standstills.note_code_missing,
        lifecycle.finish_cancels,
        lifecycle.settle_pauses,
        stages.start_waiting,
        stages.seal_finished,
        time_limits.fail_overdue,
        dispatch.replace_lost_tickets,
        dispatch.dispatch,
    ):
        try:
            part()
        except Exception as error:
            FAILURES.add(part=part.__name__)
            if database.is_away(error):
                database.note_away(error, f"the repair {part.__name__}")
            else:
                logger.exception("%s failed; the other repairs go on.", part.__name__)


def reap() -> int:
    """End the leases that have run out, and at once those of processes of this machine that have died.

    An item whose worker was lost ``poison_crashes`` times running is given up. Returns how many leases ended: none
    while the fleet is held.
    """
    dead = [owner for owner in leases.owners() if processes.is_dead(owner)]
    return settle(leases.reap(dead))


def settle(reaped: list[tuple[int, int, int]], error: BaseException | None = None) -> int:
    """Carry on after lost leases: tell the log, give up poison items, end cancels, dispatch.

    ``error`` is what ended the loop where the worker itself lives on.
    """
    why = "a worker was lost" if error is None else f"a loop failed ({type(error).__name__}: {error})"
    stage_run_ids = sorted({stage_run_id for _, stage_run_id, _ in reaped})
    if not reaped:
        return 0
    LOST.add(len(reaped), why="worker_lost" if error is None else "loop_failed")
    stage_runs = StageRun.objects.select_related("run").in_bulk(stage_run_ids)
    for slice_id, stage_run_id, crashes in reaped:
        stage_run = stage_runs[stage_run_id]
        audit.record(
            "worker_lost",
            scope=stage_run.run.scope,
            actor=SYSTEM,
            reason=f"{stage_run.slug}: {why}; its slice goes on from the last checkpoint",
            figures={"stage": stage_run.slug, "slice": slice_id, "crashes": crashes},
        )
        if crashes >= conf.settings().poison_crashes:
            _give_up_item(stage_run, slice_id, error or WorkerLost("worker lost while processing"))
    run_ids = [stage_run.run_id for stage_run in stage_runs.values()]
    lifecycle.finish_cancels(run_ids)
    metrics.guarded(lifecycle.settle_pauses)(run_ids)
    dispatch.dispatch(stage_run_ids)
    return len(reaped)


def _give_up_item(stage_run: StageRun, slice_id: int, error: BaseException) -> None:
    """Record the item (or group) after the cursor as failed and move on; a hook fails the run instead."""
    # Nothing starts: the machine of whoever reaps need not have a name.
    work = leases.take(slice_id, Worker(owner=processes.identity(), node=machines.known_name()))
    if work is None:
        return
    if work.phase != WorkSlice.Phase.WORK:
        leases.release(work)
        hook = WorkSlice.Phase(work.phase).label
        lifecycle.fail(stage_run.run_id, reason=f"{stage_run.slug}: {hook}: failed {work.crashes} times: {error}")
        return
    for unit in islice(units_of(work, stage_run), 1):
        done = Progress(cursor=unit.last_key, failed=unit.size, failures=unit.failures(error, work.crashes))
        try:
            checkpoint.commit(work, done, release=True)
        except LeaseLost as lost:
            logger.info("%s", lost)
            return
        audit.record(
            "item_given_up",
            scope=stage_run.run.scope,
            actor=SYSTEM,
            reason=f"{stage_run.slug}: item {unit.key} was given up: {error}, {work.crashes} times",
            figures={"stage": stage_run.slug, "slice": slice_id, "item": unit.key, "crashes": work.crashes},
        )
    stage = definition.of(stage_run)
    lifecycle.fail_if_too_many(stage_run, stage.max_failures, stage.group_size)
