"""Celery entry points of the pause manager; all on the ``control`` queue."""

from __future__ import annotations

from celery import shared_task

from pause_manager import holds


@shared_task(name="pause_manager.expire_holds", ignore_result=True)
def expire_holds() -> None:
    """End the timed holds that are due."""
    holds.expire()
