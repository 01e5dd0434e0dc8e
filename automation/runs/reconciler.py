"""The reconciler, which beat runs every few seconds: brings the system back to the state in the database."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from automation import conf, dispatch, leases
from automation.errors import LeaseLost
from automation.gate import standstills
from automation.items import partial_items, units
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint, owner_states
from automation.leases.checkpoint import Progress
from automation.leases.holders import Worker
from automation.leases.releases import Lost
from automation.models import StageRun, WorkSlice
from automation.pipeline import definition
from automation.runs import advancing, failing, lanes, lifecycle, questions, stage_rows, timeouts
from automation.runs.questions import Kind
from pause_manager import database
from pause_manager.actor import SYSTEM
from pause_manager.nodes.machines import identity
from pause_manager.observability import audit, metrics
from pause_manager.probes import processes

logger = logging.getLogger("automation.runs.reconciler")

RECONCILING = metrics.histogram("slackwater_reconcile_duration_seconds", "How long one reconcile took.")
FAILURES = metrics.counter("slackwater_reconcile_failures_total", "Repairs of a reconcile that failed.", ("part",))
LOST = metrics.counter(
    "slackwater_leases_lost_total",
    "Leases that ended without their holder: worker_lost (its process died), lease_expired, loop_failed (of an agent).",
    ("why",),
)


class WorkerLost(Exception):
    """The worker ended while it processed the item."""


def reconcile() -> None:
    """Repair what is missing, each part by itself: definitions, starts, seals, ends of cancels, messages."""
    with RECONCILING.timed():
        _reconcile()


def _reconcile() -> None:
    for part in (
        stage_rows.define,
        standstills.note_code_missing,
        standstills.note_files_not_shared,
        lifecycle.finish_cancels,
        lifecycle.note_drained_runs,
        lanes.fill_all,
        advancing.seal_finished,
        timeouts.fail_overdue,
        dispatch.replace_lost_tickets,
        dispatch.dispatch,
        partial_items.delete_ended,
    ):
        try:
            part()
        except Exception as error:
            FAILURES.add(part=part.__name__)
            if database.is_away(error):
                database.log_outage(error, f"the repair {part.__name__}")
            else:
                logger.exception("%s failed; continuing with the other repairs.", part.__name__)


def reap(task_id: str = "") -> int:
    """End the leases that have expired, and at once those of dead processes of this machine.

    With ``task_id`` only those of that task's loop. Returns how many leases ended: none while the fleet is held.
    """
    known = leases.holders()
    if task_id:
        known = [holder for holder in known if holder.owner.endswith(f"/{task_id}")]
    found = owner_states.classify(known)
    return handle_lost_leases(leases.reap(found.dead, crashed=found.crashed, alive=found.alive))


def handle_lost_leases(lost: Sequence[Lost], error: BaseException | None = None) -> int:
    """Continue after lost leases: record them, give up poison items, finish cancels, dispatch.

    ``error`` is the error with which an agent ended its attempt. An error here is logged and keeps no other slice.
    """
    if not lost:
        return 0
    stage_runs = StageRun.objects.select_related("run").in_bulk({one.stage_run_id for one in lost})
    for one in lost:
        try:
            _record(stage_runs[one.stage_run_id], one, error)
            _give_up_poison_item(stage_runs[one.stage_run_id], one, error or WorkerLost("worker lost while processing"))
        except Exception as failure:
            if database.is_away(failure):
                raise
            logger.exception("Slice %d could not be handled; continuing with the others.", one.slice_id)
    run_ids = [stage_run.run_id for stage_run in stage_runs.values()]
    lifecycle.finish_cancels(run_ids)
    metrics.guarded(lifecycle.note_drained_runs)(run_ids)
    dispatch.dispatch(sorted(stage_runs))
    return len(lost)


def _record(stage_run: StageRun, lost: Lost, error: BaseException | None) -> None:
    if error is not None:
        kind, why = "loop_failed", f"a loop failed ({type(error).__name__}: {error})"
    elif lost.is_crash:
        kind, why = "worker_lost", "a worker was lost: its process died"
    else:
        kind, why = "lease_expired", "a worker was lost: it was silent, or ended with no item to blame"
    LOST.add(1, why=kind)
    audit.record(
        "worker_lost",
        scope=stage_run.run.scope,
        actor=SYSTEM,
        reason=f"{stage_run.slug}: {why}; its slice continues from the last checkpoint",
        details={
            "stage": stage_run.slug,
            "slice": lost.slice_id,
            "crashes": lost.crashes,
            "expiries": lost.expiries,
            "counts": lost.is_crash,
        },
    )


def _give_up_poison_item(stage_run: StageRun, lost: Lost, error: BaseException) -> None:
    """Give up the item on which processes died, the last time alone with it; a hook fails the run instead.

    It needs no code of the stage: the slice of an item that was tried alone contains nothing else.
    """
    if not lost.is_crash or not lost.is_alone or lost.crashes < conf.settings().verdict_crashes:
        return
    # No work starts, so the machine of the reaper need not have a name.
    work = leases.take(lost.slice_id, Worker(owner=processes.identity(), node=identity.known_name()))
    if work is None:
        return
    is_hook, hook = work.phase != WorkSlice.Phase.WORK, WorkSlice.Phase(work.phase).label
    unit = None if is_hook else units.remaining_unit(work, stage_run)
    if (is_hook or unit is not None) and _asks(stage_run, work, unit.key if unit else hook, error, is_hook=is_hook):
        return
    if is_hook:
        leases.release(work)
        failing.fail(stage_run.run_id, reason=f"{stage_run.slug}: {hook}: failed {work.crashes} times: {error}")
        return
    if unit is None:
        leases.release(work)
        return
    done = Progress(
        cursor=unit.last_key, failed=unit.size, failures=unit.failures(error, work.crashes), staged={unit.key: 0}
    )
    crashes = work.crashes
    try:
        checkpoint.commit(work, done, release=True)
    except LeaseLost as gone:
        logger.info("%s", gone)
        return
    audit.record(
        "item_given_up",
        scope=stage_run.run.scope,
        actor=SYSTEM,
        reason=f"{stage_run.slug}: item {unit.key} was given up: {error}, {crashes} times",
        details={"stage": stage_run.slug, "slice": lost.slice_id, "item": unit.key, "crashes": crashes},
    )
    declared = definition.of(stage_run)
    failing.fail_if_too_many(stage_run, declared.max_failures, declared.group_size)


def _asks(stage_run: StageRun, work: LeasedSlice, key: str, error: BaseException, *, is_hook: bool) -> bool:
    """Have a person decide about the item, or hook, if its stage wants that; ``work`` is then given back."""
    told = f"{type(error).__name__}: {error}"
    if not definition.of(stage_run).asks_when_exhausted or (not is_hook and questions.is_skipped(stage_run, told)):
        return False
    asking = questions.exhausted(Kind.HOOK if is_hook else Kind.ITEM, key, told, work.crashes)
    try:
        questions.ask(stage_run, asking, give_back=lambda: leases.give_back(work, afresh=True))
    except LeaseLost as gone:
        logger.info("%s", gone)
    return True
