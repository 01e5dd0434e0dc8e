"""What a Celery worker process does at its ends: hears that it must stop, and tells of children that were lost."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from types import FrameType
from typing import Any

from celery import signals
from django.db import Error as DatabaseError
from django.db import connection

from automation import dispatch, leases, maintenance
from pause_manager.watcher import Stop, watcher

logger = logging.getLogger("automation.worker_signals")

SHUTDOWN = Stop("shutdown", "The worker is shutting down.")

_bell: tuple[int, int] | None = None
"""A pipe made before the pool forks; a byte in it tells every child that the worker is shutting down."""


@signals.worker_init.connect
def _hang_bell(**_: Any) -> None:
    global _bell
    _bell = os.pipe()


@signals.worker_shutting_down.connect
def _ring_bell(**_: Any) -> None:
    watcher.stop_all(SHUTDOWN)
    if _bell is not None:
        os.write(_bell[1], b"x")


@signals.worker_process_init.connect
def _listen_for_bell(**_: Any) -> None:
    """In a child of a prefork pool: stop at the next item when the worker shuts down or the child gets SIGTERM."""
    threading.Thread(target=_wait_for_bell, name="slackwater-bell", daemon=True).start()
    signal.signal(signal.SIGTERM, _on_sigterm)


def _wait_for_bell() -> None:
    if _bell is not None:
        # Nobody takes the byte out, so every child sees it.
        select.select([_bell[0]], [], [])
        watcher.stop_all(SHUTDOWN)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    """A supervisor may signal the whole group. The second signal ends the child at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    watcher.stop_all(SHUTDOWN)


@signals.task_failure.connect
def _child_was_lost(sender: Any = None, task_id: str = "", exception: BaseException | None = None, **_: Any) -> None:
    """A prefork pool sees at once that a child was killed: its slice need not wait for the lease to end."""
    if getattr(sender, "name", "") != dispatch.TASK or type(exception).__name__ != "WorkerLostError":
        return
    try:
        lost = [owner for owner in leases.owners() if owner.endswith(f"/{task_id}")]
        maintenance.settle(leases.reap(lost))
    except DatabaseError:
        logger.warning("The lease of task %s ends by itself: the database is away.", task_id)
    finally:
        # The parent forks new children: they must not inherit an open connection.
        connection.close()
