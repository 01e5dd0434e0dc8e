"""Celery entry points: ids in, one call out."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task, shared_task

from automation import conf, dispatch, retention
from automation.dispatch import turns
from automation.dispatch.admission import GO_ON
from automation.files import sweep
from automation.gate import installed_code
from automation.leases.holders import Worker
from automation.models import Lifecycle, StageRun
from automation.pipeline import definition
from automation.retention import purge
from automation.runs import advancing, lifecycle, reconciler, retries, unfit_params
from automation.schedules import starting, writer
from automation.worker.stage_loop import Ending, StageLoop
from pause_manager.control_task import ControlTask
from pause_manager.holds import milestones
from pause_manager.nodes.machines import identity
from pause_manager.observability import metrics
from pause_manager.probes import processes
from pause_manager.slots import standalone

logger = logging.getLogger("automation.tasks")


@shared_task(base=Task, name=dispatch.TASK, bind=True, ignore_result=True, answers_for_itself=True)
def stage_loop(self: Task[Any, Any], stage_run_id: int, ticket_id: int) -> None:
    """Work on the stage run whose turn it is, if the ticket is outstanding; a duplicate or late message ends at once.

    The message was sent for ``stage_run_id``; see ``turns``.
    """
    in_turn = turns.answer(ticket_id)
    if in_turn is None:
        return
    stage_run_id = in_turn
    stage_run = StageRun.objects.select_related("run").filter(pk=stage_run_id).first()
    if stage_run is None or stage_run.lifecycle != Lifecycle.RUNNING:
        return
    pipeline = stage_run.run.pipeline
    if not installed_code.is_here(pipeline, stage_run):
        # A worker of another release may have it; the reconciler sends the message again.
        why = installed_code.missing(pipeline, stage_run)
        logger.warning("A message for run %s is left to other workers. %s", stage_run.run_id, why)
        return
    if definition.of(stage_run).is_for_agents or unfit_params.hold_if_unfit(stage_run.run):
        return
    worker = Worker(
        owner=f"{processes.identity()}/{self.request.id}",
        node=identity.name(),
        boot_id=processes.boot_id(),
        keeper=standalone.supervising_process(),
    )
    loop = StageLoop(stage_run, worker)
    # The reconciler dispatches after a loop that raised: from here it would fail again at once.
    ending = loop.run()
    about = {"run": str(stage_run.run_id), "stage": stage_run.slug}
    logger.info("Loop of %s ended: %s.", stage_run, ending, extra=about)
    if ending is not Ending.LEASE_LOST:
        advancing.seal(stage_run_id)  # A stop may come after the last item.
    lifecycle.finish_cancels([stage_run.run_id])
    metrics.guarded(lifecycle.note_drained_runs)([stage_run.run_id])
    metrics.guarded(milestones.detect_drained)(loop.scopes)
    if ending in (Ending.NO_ROOM, Ending.FAILED):
        return  # The reconciler finds another node; dispatched from here, it might find the same node full again.
    # The remaining work needs another loop, unless the gate keeps it.
    dispatch.dispatch([stage_run_id])


@shared_task(base=Task, name=GO_ON, ignore_result=True, answers_for_itself=True)
def go_on(run_id: str) -> None:
    """Dispatch a released run: start its first loop; the reconciler adds more when there is room."""
    dispatch.of_runs([run_id], at_most=1)


@shared_task(base=ControlTask, name="automation.reconcile", ignore_result=True)
def reconcile() -> None:
    """Repair whatever is missing: starts, seals, ends of cancels, messages."""
    reconciler.reconcile()


@shared_task(base=ControlTask, name="automation.purge", ignore_result=True)
def purge_runs() -> None:
    """Delete runs with expired retention, and remove some rows and files of deleted runs."""
    retention.delete_due()
    purge.purge(seconds=conf.settings().purge_seconds, rest=1.0)
    sweep.sweep()
    writer.forget()


@shared_task(base=ControlTask, name="automation.copy_undone", ignore_result=True)
def copy_undone() -> None:
    """Continue copying items for retries."""
    retries.copy_remaining()


@shared_task(base=ControlTask, name="automation.start_scheduled", ignore_result=True)
def start_scheduled() -> None:
    """Start the occurrences of schedules that are due."""
    starting.start_due()


@shared_task(base=ControlTask, name="automation.reap_leases", ignore_result=True)
def reap_leases() -> None:
    """End lost leases, give up poison items, dispatch their slices again."""
    reconciler.reap()
