"""The end of a pool process that must not take another task: between two tasks, as ``max_tasks_per_child`` ends one."""

from __future__ import annotations

import logging
import sys
from typing import Any

from billiard import pool, process
from celery import signals

logger = logging.getLogger("pause_manager.slots.recycling")

_wanted = ""
_is_possible = False
_shares_process = False


def is_possible() -> bool:
    """Whether this is a process of a prefork pool, which starts another in its place."""
    return _is_possible


def shares_process() -> bool:
    """Whether several tasks run in this process at a time, as in a pool of threads or greenlets."""
    return _shares_process


def request_replacement(reason: str) -> None:
    """End this process once its task has been answered for."""
    global _wanted
    _wanted = reason


def note_pool(kind: type[Any]) -> None:
    """Learn in a worker's main process what its pool is."""
    global _shares_process
    _shares_process = kind.__module__.rpartition(".")[2] in ("thread", "gevent", "eventlet")


@signals.worker_process_init.connect
def _install(**_: Any) -> None:
    """In a pool process, before it takes its first task."""
    global _is_possible
    target = getattr(process.current_process(), "_target", None)
    if not isinstance(target, pool.Worker):
        return  # the solo pool sends the signal, too
    worker: Any = target
    take = worker.wait_for_job

    def wait_for_job() -> Any:
        if _wanted:
            logger.info("This process is replaced: %s.", _wanted)
            sys.exit(pool.EX_RECYCLE)
        return take()

    worker.wait_for_job = wait_for_job
    _is_possible = True
