"""Counts of this process, collected in memory and added to the database every few seconds.

By a thread of its own; in a worker's main process by the one that works with the database; and a process of its pool
hands it to that one through a pipe, so that it needs no connection to be counted.

Nothing is ever written in a caller's transaction, so that counting can neither fail it, nor lock anything in it, nor
wait. A process that is killed loses what it counted since the last time; nobody decides anything by it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping

from celery.signals import worker_init, worker_process_shutdown
from django.db import connection, transaction

from pause_manager import conf, database
from pause_manager.database.thread import database_thread

MOST_SERIES = 2_000
"""Series that one process keeps between two writes; what is new beyond them is not counted."""
PIPE_BYTES = 1 << 20
_LINE_BYTES = 4_000
"""What is written to a pipe at once, ``PIPE_BUF`` bytes at most, is not mixed with what others write."""

_ADD = """
    INSERT INTO pause_manager_countertotal AS total (name, labels, value, counted_at)
    SELECT name, labels, value, statement_timestamp()
      FROM unnest(%s::text[], %s::text[], %s::float8[]) AS counted(name, labels, value)
        ON CONFLICT (name, labels) DO UPDATE
       SET value = total.value + excluded.value, counted_at = excluded.counted_at
"""
_ADD_ONE_UNLESS_LATELY = """
    INSERT INTO pause_manager_countertotal AS total (name, labels, value, counted_at)
    VALUES (%s, %s, 1, statement_timestamp())
        ON CONFLICT (name, labels) DO UPDATE
       SET value = total.value + 1, counted_at = excluded.counted_at
     WHERE total.counted_at <= statement_timestamp() - make_interval(secs => %s)
"""

_lock = threading.Lock()
_counted: dict[tuple[str, str], float] = {}
_thread: threading.Thread | None = None
_pipe: tuple[int, int] | None = None
"""From the processes of a worker's pool to its main process: (where that one reads, where they write)."""
_is_child = False
_rest = b""
_report: Callable[[str, Exception], None] = lambda what, error: None  # noqa: E731


def add(*counted: tuple[str, str, float]) -> None:
    """Count each (name, labels, amount)."""
    global _thread
    with _lock:
        for name, labels, amount in counted:
            if (name, labels) in _counted or len(_counted) < MOST_SERIES:
                _counted[name, labels] = _counted.get((name, labels), 0.0) + amount
        if not database_thread.is_running and (_thread is None or not _thread.is_alive()):
            _thread = threading.Thread(target=_run, name="slackwater-counters", daemon=True)
            _thread.start()


def add_unless_lately(name: str, labels: str, seconds: float) -> bool:
    """Count one more now, unless that was done within the last ``seconds`` by the database's clock; whether it was.

    One statement, on the caller's connection. Of several who ask at once one is told that it was.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ADD_ONE_UNLESS_LATELY, [name, labels, seconds])
        return bool(cursor.rowcount)


def flush() -> None:
    """Add what was counted to the database now, on this thread's connection. If that fails it is counted still."""
    global _counted
    with _lock:
        mine, _counted = _counted, {}
    try:
        if _is_child and _pipe is not None:
            mine = _handed_up(mine, _pipe[1])
            return
        if _pipe is not None:
            _take_in(mine, _pipe[0])
        if mine:
            _write(mine)
            mine = {}
    finally:
        if mine:
            add(*((name, labels, amount) for (name, labels), amount in mine.items()))


def _write(counted: Mapping[tuple[str, str], float]) -> None:
    # In order, so that two processes never wait for each other's rows.
    rows = sorted((name, labels, amount) for (name, labels), amount in counted.items())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


def _handed_up(counted: Mapping[tuple[str, str], float], pipe: int) -> dict[tuple[str, str], float]:
    """Write what fits into the pipe; returns what does not fit."""
    left = dict(counted)
    with contextlib.suppress(BlockingIOError):
        for (name, labels), amount in counted.items():
            line = json.dumps([name, labels, amount]).encode() + b"\n"
            if len(line) <= _LINE_BYTES:
                os.write(pipe, line)
            del left[name, labels]
    return left


def _take_in(counted: dict[tuple[str, str], float], pipe: int) -> None:
    """Add what the processes of the pool have written."""
    global _rest
    with contextlib.suppress(BlockingIOError):
        while data := os.read(pipe, PIPE_BYTES):
            *lines, _rest = (_rest + data).split(b"\n")
            for line in lines:
                name, labels, amount = json.loads(line)
                if (name, labels) in counted or len(counted) < MOST_SERIES:
                    counted[name, labels] = counted.get((name, labels), 0.0) + amount


def _run() -> None:
    while not database_thread.is_running:
        _pause.wait(conf.settings().tally_seconds)
        _try_to_flush()


def _last_flush(**_: object) -> None:
    with contextlib.suppress(Exception):
        flush()


def report_failures_to(report: Callable[[str, Exception], None]) -> None:
    """Call ``report`` with the name of what failed and the error whenever the thread cannot write."""
    global _report
    _report = report


def _try_to_flush() -> None:
    with contextlib.suppress(Exception), database.own_connection():
        _attempt(flush)
    _attempt(database.close)


def _attempt(step: Callable[[], None]) -> None:
    try:
        step()
    except Exception as error:
        _report(step.__qualname__, error)


_pause = threading.Event()
"""Never set, only waited for."""


@worker_init.connect
def _lay_pipe(**_: object) -> None:
    """Before the pool forks. A pool that does not fork never writes to it."""
    global _pipe
    if _pipe is None:
        _pipe = os.pipe()
        for end in _pipe:
            os.set_blocking(end, False)
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(_pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _forget() -> None:
    """In a child: what was counted before the fork is the parent's to write."""
    global _lock, _counted, _thread, _pause, _is_child, _rest
    _lock, _counted, _thread, _pause = threading.Lock(), {}, None, threading.Event()
    _is_child, _rest = True, b""


os.register_at_fork(after_in_child=_forget)
atexit.register(_last_flush)
worker_process_shutdown.connect(_last_flush)  # children of a pool end without the rest of the interpreter
database_thread.repeat("the counts for /metrics", flush, lambda: conf.settings().tally_seconds)
