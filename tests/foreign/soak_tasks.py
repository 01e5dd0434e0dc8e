"""Tasks that write when they begin and end, past every proxy and on PostgreSQL's clock: for the soak with cut wires."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import psycopg
from celery import shared_task

PIECES = 5

_own = threading.local()
# The entry that it was sent from, and which sending it was, is read where the delivery has just written it.
_WRITE = """
    INSERT INTO soak_ledger (task_id, what, entry)
    SELECT %(id)s, %(what)s, (SELECT max(entry.id || '.' || entry.generation)
                                FROM pause_manager_runningtask AS task
                                JOIN pause_manager_pausequeueentry AS entry ON entry.id = task.entry_id
                               WHERE task.task_id = %(id)s)
"""


def wrote(task_id: str, what: str) -> None:
    if not hasattr(_own, "connection"):
        _own.connection = psycopg.connect(os.environ["DIRECT_DATABASE_URL"], autocommit=True)
    _own.connection.execute(_WRITE, {"id": task_id, "what": what})


def single(task_id: str, seconds: float) -> None:
    wrote(task_id, "begun")
    time.sleep(seconds)
    wrote(task_id, "done")


def halves(task: Any, seconds: float, first: int) -> None:
    """Works piece by piece, and leaves before the next one when it is told to."""
    wrote(task.request.id, "begun")
    for piece in range(first, PIECES):
        should_stop, _ = task.check_should_stop()
        if should_stop:
            raise task.park(seconds, first=piece)
        wrote(task.request.id, f"piece {piece}")
        time.sleep(seconds / PIECES)
    wrote(task.request.id, "done")


@shared_task(bind=True, ignore_result=True, acks_late=False)
def single_early(self, seconds):
    single(self.request.id, seconds)


@shared_task(bind=True, ignore_result=True, acks_late=True)
def single_late(self, seconds):
    single(self.request.id, seconds)


@shared_task(bind=True, ignore_result=True, acks_late=False)
def halves_early(self, seconds, first=0):
    halves(self, seconds, first)


@shared_task(bind=True, ignore_result=True, acks_late=True)
def halves_late(self, seconds, first=0):
    halves(self, seconds, first)
