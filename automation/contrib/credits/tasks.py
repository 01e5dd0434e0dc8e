"""Celery entry points of credits."""

from __future__ import annotations

from celery import shared_task

from automation.contrib.credits import settling
from pause_manager.control_task import ControlTask


@shared_task(base=ControlTask, name="credits.sweep", ignore_result=True)
def sweep() -> None:
    """Settle ended runs, park what cannot be paid for, resume by policy, tell low balances."""
    settling.sweep()
