"""What this process has counted, kept in memory and added to the database every few seconds by a thread of its own.

Nothing is ever written in a caller's transaction, so that counting can neither fail it, nor lock anything in it, nor
wait. A process that is killed loses what it counted since the last time; nobody decides anything by it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Mapping

from celery.signals import worker_process_shutdown
from django.db import connection, transaction

from pause_manager import conf

MOST_SERIES = 2_000
"""Series that one process keeps between two writes; what is new beyond them is not counted."""

_ADD = """
    INSERT INTO pause_manager_tally AS tally (name, labels, value, counted_at)
    SELECT name, labels, value, statement_timestamp()
      FROM unnest(%s::text[], %s::text[], %s::float8[]) AS counted(name, labels, value)
        ON CONFLICT (name, labels) DO UPDATE
       SET value = tally.value + excluded.value, counted_at = excluded.counted_at
"""

_lock = threading.Lock()
_counted: dict[tuple[str, str], float] = {}
_thread: threading.Thread | None = None


def add(*counted: tuple[str, str, float]) -> None:
    """Count each (name, labels, amount)."""
    global _thread
    with _lock:
        for name, labels, amount in counted:
            if (name, labels) in _counted or len(_counted) < MOST_SERIES:
                _counted[name, labels] = _counted.get((name, labels), 0.0) + amount
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="slackwater-tallies", daemon=True)
            _thread.start()


def flush() -> None:
    """Add what was counted to the database now, on this thread's connection. If that fails it is counted still."""
    global _counted
    with _lock:
        mine, _counted = _counted, {}
    if not mine:
        return
    try:
        _write(mine)
    except Exception:
        add(*((name, labels, amount) for (name, labels), amount in mine.items()))
        raise


def _write(counted: Mapping[tuple[str, str], float]) -> None:
    # In order, so that two processes never wait for each other's rows.
    rows = sorted((name, labels, amount) for (name, labels), amount in counted.items())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


def _run() -> None:
    while True:
        _pause.wait(conf.settings().tally_seconds)
        _try_to_flush()


def _last_flush(**_: object) -> None:
    with contextlib.suppress(Exception):
        flush()


def _try_to_flush() -> None:
    from pause_manager import metrics

    metrics.guarded(flush)()
    metrics.guarded(connection.close)()


_pause = threading.Event()
"""Never set, only waited for."""


def _forget() -> None:
    """In a child: what was counted before the fork is the parent's to write."""
    global _lock, _counted, _thread, _pause
    _lock, _counted, _thread, _pause = threading.Lock(), {}, None, threading.Event()


os.register_at_fork(after_in_child=_forget)
atexit.register(_last_flush)
worker_process_shutdown.connect(_last_flush)  # children of a pool end without the rest of the interpreter
