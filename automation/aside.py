"""A database connection beside the caller's own, on which a statement is under way while the caller works on.

No thread: one that waits for a busy interpreter takes it away some twenty times a statement (ADR 4).
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import errors
from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from psycopg.pq.abc import PGconn, PGresult

_FINE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class Aside:
    """One statement at a time, each a transaction of its own; opens its connection with the first.

    Errors are Django's (``django.db.OperationalError`` …), as from a cursor; after one the connection is given up.
    """

    def __init__(self) -> None:
        self._wrapper: BaseDatabaseWrapper | None = None
        self.is_under_way = False

    def send(self, statement: bytes, params: Sequence[bytes | None]) -> None:
        """Begin ``statement``, with ``$1`` … for ``params`` in their text form, once the one before it is done.

        The result of the one before, if nobody asked for it, is dropped.
        """
        if self.is_under_way:
            self.result()
        try:
            pgconn = self._pgconn()
            with self._errors():
                pgconn.send_query_params(statement, params)
                while pgconn.flush():
                    _wait(pgconn, selectors.EVENT_READ | selectors.EVENT_WRITE)
                    pgconn.consume_input()
        except BaseException:
            self._give_up()
            raise
        self.is_under_way = True

    def result(self) -> bytes | None:
        """Wait for the statement that is under way; returns the first column of its first row."""
        self.is_under_way = False
        try:
            with self._errors():
                result = _last_result(self._pgconn())
                if result.status not in _FINE:
                    raise errors.error_from_result(result)
                return result.get_value(0, 0) if result.ntuples else None
        except BaseException:
            self._give_up()
            raise

    def close(self) -> None:
        """Let what is under way end, whatever comes of it, and give the connection back."""
        with contextlib.suppress(Exception):
            if self.is_under_way:
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
        raise errors.InternalError("the connection has no statement under way")
    return last


def _wait(pgconn: PGconn, events: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, events)
        selector.select()
