"""What an error of the database means, and a connection that a long-lived thread of ours owns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error as DatabaseError
from django.db import InterfaceError, connection

AWAY = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATE that pass: connection, rollback, resources, object in use, operator intervention."""
_READ_ONLY = "25006"
_NEVER_PASS = ("40002", "57014", "57P04")
"""Of those classes: an integrity constraint, a statement that was cancelled, a database that was dropped."""


def sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE of an error of Django's or of the driver's; empty if it has none."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if state:
            return str(state)
        error = error.__cause__
    return ""


def is_away(error: BaseException) -> bool:
    """Whether the same statement may work later: the connection was lost, or the database cannot do it now.

    Anything else is a fault of what was asked for, and asking again changes nothing.
    """
    if not isinstance(error, DatabaseError):
        return False
    state = sqlstate(error)
    if state:
        return state == _READ_ONLY or (state[:2] in AWAY and state not in _NEVER_PASS)
    # The driver says nothing of a connection that it lost by itself: "the connection is closed", "server closed the …".
    return isinstance(error, InterfaceError) or type(error).__name__ == "OperationalError"


@contextmanager
def own_connection() -> Iterator[None]:
    """For each round of a long-lived thread: a connection that has failed is closed, so that the next round has one.

    Django renews connections only between requests and tasks; a thread beside them would keep a dead one for ever.
    """
    try:
        yield
    except DatabaseError:
        close()
        raise
    else:
        # A failure that the round has dealt with itself, as a reaction to a sample does.
        if connection.errors_occurred or (connection.connection is not None and connection.connection.closed):
            close()


def close() -> None:
    """Let this thread's connection go, whatever it is in the middle of; the next statement opens another."""
    connection.close()
