"""Celery entry points of the pause manager; all on the ``control`` queue."""

from __future__ import annotations

from celery import shared_task

from pause_manager import conf, fleet, holds, manager, nodes, overrides, resources
from pause_manager.actor import SYSTEM
from pause_manager.control_task import ControlTask
from pause_manager.database import batches
from pause_manager.holds import milestones, windows
from pause_manager.models import IdempotencyRecord
from pause_manager.observability import counter_history, metrics, waiting
from pause_manager.pausable import chord_results, failed_tasks, redispatch
from pause_manager.pause_queue import writer


@shared_task(name="pause_manager.expire_holds", ignore_result=True, base=ControlTask)
def expire_holds() -> None:
    """End the timed holds and overrides that are due; carry on what resources wait for; note what has drained; warn of
    the rest."""
    holds.expire()
    metrics.guarded(overrides.expire)()
    metrics.guarded(resources.advance)()
    metrics.guarded(milestones.detect_drained)()
    fleet.maintain()


@shared_task(name="pause_manager.keep_windows", ignore_result=True, base=ControlTask)
def keep_windows() -> None:
    """Hold what pause windows want held now, and nothing else."""
    windows.keep()


@shared_task(name="pause_manager.forget_outcomes", ignore_result=True, base=ControlTask)
def forget_outcomes() -> None:
    """Delete the outcomes that are kept for repeats of commands and are too old for one."""
    batches.delete(
        IdempotencyRecord._meta.db_table,
        "created_at",
        "created_at < statement_timestamp() - make_interval(secs => 3600 * %(hours)s::float8)",
        {"hours": conf.settings().idempotency_hours},
    )


@shared_task(name="pause_manager.poll", ignore_result=True, base=ControlTask)
def poll() -> None:
    """Send on what is parked and has room, and what was kept by a hold that is gone; keep a sample of what waits."""
    redispatch.reconcile()
    manager.poll()
    metrics.guarded(waiting.record)()
    metrics.guarded(counter_history.record)()
    metrics.guarded(chord_results.keep_alive)()


@shared_task(name=redispatch.SEND_TASK, ignore_result=True, base=ControlTask)
def send_kept() -> None:
    """Send on what a released hold kept and its releaser left to us."""
    redispatch.dispatch_released(actor=SYSTEM, reason="the hold was released")


@shared_task(name="pause_manager.forget_history", ignore_result=True, base=ControlTask)
def forget_history() -> None:
    """Delete what ended more than ``history_days`` ago: samples, nodes, parked work, released holds, overrides,
    failed tasks."""
    nodes.forget_history()
    writer.forget()
    holds.forget()
    overrides.forget()
    waiting.forget()
    counter_history.forget()
    failed_tasks.forget()
