"""A task with ``on_exhausted = "hold"`` whose retries are used up: a person is asked, and it has not failed yet.

Imports no models, as ``task`` does: this runs in the pool.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from celery.app.trace import build_tracer, task_has_custom
from celery.exceptions import TaskPredicate
from celery.utils.log import get_logger

FAIL, HOLD = "fail", "hold"
MODES = (FAIL, HOLD)
LONGEST_ERROR = 2_000

logger = get_logger("pause_manager.pausable.exhaustion")

_building = threading.Lock()


def asks(task: Any) -> bool:
    """Whether a person decides about ``task`` when its retries are used up."""
    return bool(getattr(task, "on_exhausted", FAIL) == HOLD)


def check(name: str, mode: Any) -> None:
    """Raise ``ValueError`` if ``mode``, the ``on_exhausted`` of the task class ``name``, is none."""
    if mode not in MODES:
        raise ValueError(f"Cannot declare task {name}: expected on_exhausted of {' or '.join(MODES)}, got: {mode!r}.")


def failure_of(task: Any, error: Exception, retries: int) -> dict[str, Any]:
    """``error`` in parts that JSON can say, with how often the task was tried."""
    parts = task.backend.prepare_exception(error, serializer="json")
    text = str(error)
    return {
        "error": f"{type(error).__name__}: {text}"[:LONGEST_ERROR] if text else type(error).__name__,
        "tries": retries + 1,
        "exception": {name: parts[name] for name in ("exc_type", "exc_module", "exc_message") if name in parts},
    }


def error_of(task: Any, failure: Mapping[str, Any]) -> Exception:
    """The exception that a task failed with; a ``RuntimeError`` that quotes it if its class cannot be had here."""
    try:
        error = task.backend.exception_to_python(dict(failure["exception"]))
    except Exception:
        error = None
    return error if isinstance(error, Exception) else RuntimeError(str(failure.get("error", "")))


def tracer_of(task: Any, tracer: Callable[..., Any], hostname: str | None, body: Callable[..., Any]) -> Any:
    """Celery's tracer for ``task`` with ``body`` around what it runs: it sees what no retry is left for.

    Made once in each process. ``body`` is given the task, what it runs, and its arguments. A task with a ``__call__``
    of its own looks ``run`` up each time, and keeps what is put there.
    """
    made: tuple[Any, int, Any] | None = task.__dict__.get("_asking_tracer")
    if made is not None and made[0] is tracer and made[1] == os.getpid():
        return made[2]
    with _building:
        own = task.run
        is_set = "run" in task.__dict__
        try:
            # The tracer takes what ``run`` is now, retries by ``autoretry_for`` included.
            task.run = lambda *args, **kwargs: body(task, own, args, kwargs)
            asking = build_tracer(task.name, task, task.app.loader, hostname, app=task.app)
        finally:
            if not task_has_custom(task, "__call__"):
                if is_set:
                    task.run = own
                else:
                    del task.__dict__["run"]
        task.__dict__["_asking_tracer"] = (tracer, os.getpid(), asking)
    return asking


def is_of_celery(error: BaseException) -> bool:
    """Whether ``error`` is a word to Celery (``Retry``, ``Ignore``, ``Reject``), and no failure."""
    return isinstance(error, TaskPredicate)
