"""Statements that PostgreSQL plans once for a connection, where planning them costs more than they do.

Left to itself it plans some of them again each time, by what it estimates. So the connection is told to take
the one plan, and tests look whether that is good for all values.

A prepared statement belongs to a server's connection, and a pooler such as PgBouncer may hand out another one with
each transaction. So its name says what it does, by a hash of its text: under one name there is never another statement.
Where such a connection does not know the name, the process stops preparing, and its caller begins again.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connection

from pause_manager.database.session import sqlstate

logger = logging.getLogger("pause_manager.database")

SEEN_BEFORE = 5
"""So often a connection carries a statement out before it is prepared: for fewer it would cost more than it saves."""

_UNKNOWN, _THERE_ALREADY, _OTHER_COLUMNS = "26000", "42P05", "0A000"
"""SQLSTATE where another connection is behind ours, and where a migration changed the type of a column."""
_PARAMETER = re.compile(r"%\((\w+)\)s")


class _Cursor(Protocol):
    def execute(self, sql: str, params: Mapping[str, Any] | None = None, /) -> object: ...


class NotKept(DatabaseError):
    """The connection does not have what was prepared on it, and this process prepares nothing any more.

    The transaction is lost. Who has rolled it back begins again.
    """


class PreparedStatement:
    """``sql`` with ``%(name)s`` for its parameters; ``types`` says the type of each, as SQL.

    ``name`` has small letters, digits and ``_``.
    """

    def __init__(self, name: str, sql: str, types: Mapping[str, str]) -> None:
        names = list(dict.fromkeys(_PARAMETER.findall(sql)))
        if missing := [one for one in names if one not in types]:
            raise TypeError(f"Cannot prepare {name}: expected types of all parameters, missing: {', '.join(missing)}")
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql).replace("%%", "%")
        declared = ", ".join(types[one] for one in names)
        digest = hashlib.sha256(f"{declared}\n{numbered}".encode()).hexdigest()[:16]
        self._name = name
        self.name = f"slackwater_{name}_{digest}"
        self.sql = sql
        self.types = types
        self._prepare = f"SET plan_cache_mode = force_generic_plan; PREPARE {self.name} ({declared}) AS {numbered}"
        self._execute = f"EXECUTE {self.name} ({', '.join(f'%({one})s' for one in names)})"

    def replaced(self, old: str, new: str) -> PreparedStatement:
        """The same statement with another text for a part of it."""
        return PreparedStatement(self._name, self.sql.replace(old, new), self.types)

    def run(self, cursor: _Cursor, values: Mapping[str, Any]) -> None:
        """Carry it out on ``cursor``, which is of this thread's ``django.db.connection``.

        Raises ``NotKept``, or what the database does.
        """
        uses = _uses.setdefault(connection.connection, Counter())
        if _stopped or uses[self.name] < SEEN_BEFORE:
            cursor.execute(self.sql, values)
            uses[self.name] += 1
            return
        try:
            if uses[self.name] == SEEN_BEFORE:
                cursor.execute(self._prepare)  # outlives a rollback; if it fails, it is tried again
                uses[self.name] += 1
            cursor.execute(self._execute, values)
        except DatabaseError as error:
            if sqlstate(error) not in (_UNKNOWN, _THERE_ALREADY, _OTHER_COLUMNS):
                raise
            _stop(error)
            raise NotKept(str(error)) from error


_uses: WeakKeyDictionary[Any, Counter[str]] = WeakKeyDictionary()
"""By connection of the driver, how often each statement was carried out."""
_stopped: list[str] = []
"""Why this process prepares nothing any more."""
_stopping = threading.Lock()


def _stop(error: BaseException) -> None:
    first = next(iter(str(error).splitlines()), "")
    with _stopping:
        if _stopped:
            return
        _stopped.append(first)
    logger.warning(
        "Statements are not prepared any more: this connection does not keep them (%s). Behind a pooler in transaction "
        "mode that is as it must be; a claim takes longer.",
        first,
    )
