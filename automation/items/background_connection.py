"""A database connection beside the caller's own, on which a statement runs while the caller works on.

A thread does nothing but send; the caller collects. A thread that did both would take the interpreter from the caller
some twenty times a statement, and a caller that sent by itself would lose its core to the server it wakes (ADR 4).
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import errors
from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from psycopg.pq.abc import PGconn, PGresult

_FINE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


def numbered(statement: str) -> tuple[bytes, list[str]]:
    """For ``BackgroundConnection``: ``statement`` with ``$1`` … for ``%(name)s``, and the names in that order."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    return (statement % {name: f"${number}" for number, name in enumerate(names, 1)}).encode(), names


class BackgroundConnection:
    """One statement at a time, each a transaction of its own; opens its connection with the first.

    Errors are Django's (``django.db.OperationalError`` …), as from a cursor; after one the connection is given up.
    """

    def __init__(self) -> None:
        self._wrapper: BaseDatabaseWrapper | None = None
        self._statement_under_way: _Statement | None = None

    def send(self, statement: bytes, params: Sequence[bytes | None]) -> None:
        """Begin ``statement``, with ``$1`` … for ``params`` in their text form, once the one before it is done.

        The result of the one before, if nobody asked for it, is dropped.
        """
        if self._statement_under_way is not None:
            self.result()
        self._statement_under_way = _Statement(self._pgconn(), statement, params)
        _sender.put(self._statement_under_way)

    def result(self) -> bytes | None:
        """Wait for the statement in progress; returns the first column of its first row."""
        pending, self._statement_under_way = self._statement_under_way, None
        if pending is None:
            raise RuntimeError("Cannot wait for a result: no statement is in progress.")
        try:
            with self._errors():
                pending.wait()
                result = _last_result(pending.pgconn)
                if result.status not in _FINE:
                    raise errors.error_from_result(result)
                return result.get_value(0, 0) if result.ntuples else None
        except BaseException:
            self._give_up()
            raise

    def close(self) -> None:
        """Let what is in progress end, whatever comes of it, and give the connection back."""
        with contextlib.suppress(Exception):
            if self._statement_under_way is not None:
                self.result()
        self._give_up()

    def _pgconn(self) -> PGconn:
        if self._wrapper is None:
            self._wrapper = connections.create_connection(DEFAULT_DB_ALIAS)
            self._wrapper.ensure_connection()
        pgconn: PGconn = self._wrapper.connection.pgconn
        return pgconn

    def _errors(self) -> Any:
        assert self._wrapper is not None
        return self._wrapper.wrap_database_errors

    def _give_up(self) -> None:
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None:
            with contextlib.suppress(Exception):
                wrapper.close()


class _Statement:
    """A statement to be sent."""

    def __init__(self, pgconn: PGconn, statement: bytes, params: Sequence[bytes | None]) -> None:
        self.pgconn = pgconn
        self._statement = statement
        self._params = params
        self._error: Exception | None = None
        self._is_sent = threading.Event()

    def send(self) -> None:
        """Called by the sending thread."""
        try:
            self.pgconn.send_query_params(self._statement, self._params)
            while self.pgconn.flush():
                _wait(self.pgconn, selectors.EVENT_READ | selectors.EVENT_WRITE)
                self.pgconn.consume_input()
        except Exception as error:
            self._error = error
        finally:
            self._is_sent.set()

    def wait(self) -> None:
        """Return when it is sent, or raise what kept it from it."""
        self._is_sent.wait()
        if self._error is not None:
            raise self._error


class _Sender:
    """The sending thread of this process, started by the first pending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._statements: SimpleQueue[_Statement] = SimpleQueue()

    def put(self, pending: _Statement) -> None:
        if self._pid != os.getpid():
            self._start()
        self._statements.put(pending)

    def _start(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                self._statements = SimpleQueue()
                threading.Thread(
                    target=self._run, args=(self._statements,), name="slackwater-sender", daemon=True
                ).start()
                self._pid = os.getpid()

    @staticmethod
    def _run(statements: SimpleQueue[_Statement]) -> None:
        while True:
            statements.get().send()


_sender = _Sender()


def _last_result(pgconn: PGconn) -> PGresult:
    last = None
    while True:
        while pgconn.is_busy():
            _wait(pgconn, selectors.EVENT_READ)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        last = result
    if last is None:
        raise errors.InternalError("the connection has no statement in progress")
    return last


def _wait(pgconn: PGconn, events: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, events)
        selector.select()
