"""What a Celery worker process does at its ends: hears that it must stop, and reports children that were lost."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from celery import signals

from automation import dispatch
from automation.runs import reconciler
from pause_manager import database
from pause_manager.slots import shared_state, slot_table
from pause_manager.worker.consumption import consumption
from pause_manager.worker.supervisor import supervisor

logger = logging.getLogger("automation.worker.signals")

_parent_pid = 0
_idle_handler: Any = None
_is_told_to_end = False


@signals.worker_init.connect
def _know_parent(**_: Any) -> None:
    global _parent_pid
    _parent_pid = os.getpid()


GARBAGE_THRESHOLDS = (20_000, 20, 50)
"""Of a process that works on stages: a loop holds thousands of items at once, and none of them is part of a circle."""


@signals.worker_process_init.connect
def _collect_seldom(**_: Any) -> None:
    gc.set_threshold(*GARBAGE_THRESHOLDS)


@signals.worker_ready.connect
def _tell_who_cannot_be_ended(sender: Any = None, **_: Any) -> None:
    """A worker of stages in a pool that is one process."""
    pool = type(getattr(sender, "pool", None)).__module__.rpartition(".")[2]
    if pool != "prefork" and consumption.queues:
        logger.warning(
            "The pool %s is one process: an item that hangs fails after item_timeout, but its place is lost until this "
            "worker restarts. Stages are best worked on by a prefork pool.",
            pool,
        )


@signals.worker_ready.connect
def _take_up_what_was_lost(**_: Any) -> None:
    """The worker before this one may have been killed: its slices need not wait for beat's next look."""
    try:
        reconciler.reap()
    except Exception as error:
        if not database.is_away(error):
            raise
        logger.warning("Leases of workers that were lost wait for beat: the database is %s.", database.describe(error))
    finally:
        database.close()  # children that the pool forks later must not inherit it


@signals.worker_shutting_down.connect
def _stop_loops(**_: Any) -> None:
    """In every process of the pool at once: they read it from the worker's page."""
    if (here := shared_state.current()) is not None:
        slot_table.shut_down(here)
        supervisor.wake()  # A process that dies from now on dies of that: it is written down at once.


def _is_child() -> bool:
    """Whether this is a process of a pool; the solo pool works in the worker's own, whose signals are Celery's."""
    return os.getpid() != _parent_pid


@signals.task_prerun.connect
def _take_sigterm(task: Any = None, **_: Any) -> None:
    """Until the loop has ended SIGTERM is ours; the pool sets its own handler after it has started the child."""
    global _idle_handler
    if getattr(task, "name", "") == dispatch.TASK and _is_child() and _in_main_thread():
        _idle_handler = signal.signal(signal.SIGTERM, _on_sigterm)


@signals.task_postrun.connect
def _give_sigterm_back(task: Any = None, **_: Any) -> None:
    if _idle_handler is None or getattr(task, "name", "") != dispatch.TASK or not _in_main_thread():
        return
    signal.signal(signal.SIGTERM, _idle_handler)
    if _is_told_to_end:
        raise SystemExit


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    """A supervisor may signal the whole group, and Celery ends a task so: the loop stops, then the child ends.

    The second signal ends it at once.
    """
    global _is_told_to_end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _is_told_to_end = True
    slot_table.stop_mine()


@signals.task_failure.connect
def _child_was_lost(sender: Any = None, task_id: str = "", exception: BaseException | None = None, **_: Any) -> None:
    """A prefork pool sees at once that a child was killed: its slice need not wait for the lease to end."""
    if getattr(sender, "name", "") != dispatch.TASK or type(exception).__name__ != "WorkerLostError":
        return
    try:
        reconciler.reap(task_id)
    except Exception as error:
        if not database.is_away(error):
            raise
        logger.warning("The lease of task %s ends by itself: the database is %s.", task_id, database.describe(error))
    finally:
        # The parent forks new children: they must not inherit an open connection.
        database.close()
