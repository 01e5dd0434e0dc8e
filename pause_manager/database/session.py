"""What an error of the database means, and a connection that a long-lived thread of ours owns."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

from pause_manager import conf

logger = logging.getLogger("pause_manager.database.session")

AWAY = ("08", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that pass: connection, rollback, resources, object in use, operator intervention, system."""
_PASSES_TOO = ("25006", "25P03", "25P04")
"""A read-only transaction, as after a failover; and a connection that was ended for what it was idle in."""
_NEVER_PASSES = ("40002", "55P02", "55P04")
"""Of those classes: a constraint at commit, and two that say what was asked for is wrong."""
READ_ONLY = "25006"
_REFUSED = ("22", "23", "54")
"""Classes of SQLSTATE that speak of the values themselves: data, integrity, a limit of the program."""

IDLE_SECONDS = 5.0
"""A connection that was unused for longer is tried before it is believed: proxies and time-outs end idle ones."""
QUIET_SECONDS = 30.0
"""An outage that nobody met for so long is over: the next is told again."""

_ANY = (DatabaseError, psycopg.Error)
_LOST = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)


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
    if not isinstance(error, _ANY):
        return False
    if state := sqlstate(error):
        return state in _PASSES_TOO or (state[:2] in AWAY and state not in _NEVER_PASSES)
    # Of what it found out by itself the driver gives no state: "the connection is closed", a pool's time-out, a server
    # that does not let anybody in. Django's word of a broken transaction names what broke it as its cause.
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _LOST):
        cause = cause.__cause__
    return cause is not None


def is_refused(error: BaseException) -> bool:
    """Whether the database takes everything but these values: too large, or nothing it can store."""
    return isinstance(error, _ANY) and sqlstate(error)[:2] in _REFUSED


def is_usable() -> bool:
    """Whether this thread's connection works and takes changes. One statement."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            return bool(cursor.fetchone()[0] == "off")
    except DatabaseError:
        return False


def is_read_only(error: BaseException) -> bool:
    """Whether the database takes no changes: a standby, or a primary that was demoted."""
    return sqlstate(error) == READ_ONLY


def describe(error: BaseException) -> str:
    """What is the matter with the database, for people: the end of a sentence that begins with "the database is"."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__).removesuffix(".")
    if is_read_only(error):
        return "read-only: it takes no changes, as after a failover"
    return f"away ({first})"


def explain(error: BaseException) -> str:
    """What a command says instead of a traceback."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if is_read_only(error):
        return "Cannot change anything: the database is read-only, as after a failover."
    hint = conf.settings().database_hint if not sqlstate(error) else ""
    return f"Cannot use the database: {first.removesuffix('.')}. {hint}".rstrip()


@contextmanager
def own_connection() -> Iterator[None]:
    """For each round of a long-lived thread: a connection that has failed is closed, so that the next round has one.

    Django renews connections only between requests and tasks; a thread beside them would keep a dead one forever.
    """
    _bound_connecting()
    if connection.connection is not None and time.monotonic() > _used.at + IDLE_SECONDS and not connection.is_usable():
        close()
    try:
        yield
    except DatabaseError:
        close()
        raise
    else:
        # A failure that the round has dealt with itself, as a reaction to a sample does.
        if connection.errors_occurred or (connection.connection is not None and connection.connection.closed):
            close()
    finally:
        _used.at = time.monotonic()


def _bound_connecting() -> None:
    """Have this thread's connection give up on a server that takes it and says nothing."""
    options = connection.settings_dict.get("OPTIONS") or {}
    if "connect_timeout" not in options and connection.vendor == "postgresql":
        # Of this thread alone: the settings themselves are everybody's.
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": {**options, "connect_timeout": 5}}


class _Used(threading.local):
    at = float("-inf")


_used = _Used()
"""When this thread last let go of its own connection."""


def close() -> None:
    """Let this thread's connection go, whatever it is in the middle of; the next statement opens another."""
    with contextlib.suppress(DatabaseError):
        connection.close()


class _Outage:
    """Reports an outage once per process, however many meet it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = ""
        self._met_at = float("-inf")

    def meet(self, error: BaseException, what: str) -> None:
        with self._lock:
            state = "read-only" if is_read_only(error) else "away"
            is_news = state != self._state or time.monotonic() > self._met_at + QUIET_SECONDS
            self._state, self._met_at = state, time.monotonic()
        if is_news:
            logger.warning("The database is %s: %s waits, and so does all else.", describe(error), what)
        else:
            logger.debug("The database is %s: %s waits.", describe(error), what)


_outage = _Outage()


def log_outage(error: BaseException, what: str) -> None:
    """Say that ``what`` waits for the database: the first to say so in an outage is heard, the others at DEBUG."""
    _outage.meet(error, what)


@contextmanager
def skip_if_away(what: str) -> Iterator[None]:
    """Let the block end early if the database is away, which is told: it comes again. Other errors are raised."""
    try:
        yield
    except Exception as error:
        if not is_away(error):
            raise
        log_outage(error, what)
