"""Celery entry points of the pause manager; all on the ``control`` queue."""

from __future__ import annotations

from celery import shared_task

from pause_manager import fleet, holds, manager, nodes
from pause_manager.api import idempotency


@shared_task(name="pause_manager.expire_holds", ignore_result=True)
def expire_holds() -> None:
    """End the timed holds that are due; warn of what outlasts a quiesce."""
    holds.expire()
    fleet.look_after()


@shared_task(name="pause_manager.forget_outcomes", ignore_result=True)
def forget_outcomes() -> None:
    """Delete the outcomes that are kept for repeats of commands and are too old for one."""
    idempotency.forget_old()


@shared_task(name="pause_manager.poll", ignore_result=True)
def poll() -> None:
    """Send on what is parked and has room."""
    manager.poll()


@shared_task(name="pause_manager.forget_history", ignore_result=True)
def forget_history() -> None:
    """Delete samples by the minute, and nodes that are gone, older than ``history_days``."""
    nodes.forget_history()
