"""What a worker keeps of the tasks that failed: collected in its loop, written in batches by the database thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from celery.exceptions import TaskPredicate
from django.db import DatabaseError

from pause_manager import conf, database
from pause_manager.database.thread import database_thread
from pause_manager.pausable import failed_tasks, is_pausable

if TYPE_CHECKING:
    from pause_manager.models import FailedTask
    from pause_manager.worker.request import PausableRequest

logger = logging.getLogger("pause_manager.worker.failure_log")

MOST_WAITING = 500
"""Of a storm of failures the first of each second are kept, and the rest are counted."""
SECONDS = 1.0


class FailureLog:
    """The failures that are not written yet. ``add`` is called in the loop, ``flush`` in the database thread."""

    def __init__(self) -> None:
        self._rows: deque[FailedTask] = deque()
        self._left_out = 0
        self._written_at = 0.0
        self._lock = threading.Lock()

    def add(self, request: PausableRequest, error: BaseException, traceback: str) -> None:
        """Keep that the task of ``request`` failed, unless Celery or its broker has it run again. Never raises."""
        error = getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error
        if isinstance(error, TaskPredicate) or request.requeued or not request.acknowledged:
            return
        if not is_pausable(request.task) or request.queue in (None, conf.settings().control_queue):
            return
        with self._lock:
            if len(self._rows) >= MOST_WAITING:
                self._left_out += 1
                return
        try:
            row = failed_tasks.row_of(request.delivery(), request.call, error, traceback)
        except Exception:
            logger.exception("%s has failed, and what it was cannot be kept.", request)
            return
        with self._lock:
            self._rows.append(row)
        if time.monotonic() > self._written_at + SECONDS:
            database_thread.submit("failed tasks", self.flush)

    def flush(self) -> None:
        """Write what was collected; with the database away it stays for the next time."""
        with self._lock:
            rows, left_out, self._left_out = list(self._rows), self._left_out, 0
        if not rows:
            return
        self._written_at = time.monotonic()
        try:
            failed_tasks.write(rows)
        except DatabaseError as error:
            if not database.is_refused(error):
                raise
            _write_each(rows)
        with self._lock:
            for _ in rows:
                self._rows.popleft()
        if left_out:
            logger.warning("%d more tasks have failed within a second: only that they failed is logged.", left_out)


def _write_each(rows: Sequence[FailedTask]) -> None:
    """Write what the database takes of ``rows``: one that it refuses must not keep the others waiting forever."""
    for row in rows:
        try:
            failed_tasks.write([row])
        except DatabaseError as error:
            if not database.is_refused(error):
                raise
            logger.warning("%s has failed, and what it was cannot be kept: %s", row, error)


failure_log = FailureLog()
"""The one of this process; it runs in the main process of a worker only."""
database_thread.repeat("failed tasks", failure_log.flush, lambda: SECONDS)
