"""Connections to the broker of our own: every wait for one is bounded, whatever the project's settings say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import amqp.exceptions
import redis.exceptions
from kombu.exceptions import ChannelError, OperationalError

BROKER_ERRORS = (OperationalError, ChannelError, ConnectionError, TimeoutError, OSError)

SECONDS = 3.0
"""The longest wait for any one answer of the broker."""

_REMEMBERED_SECONDS = 15.0

AWAY = (
    *(OSError, amqp.exceptions.ConnectionError),
    *(redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ReadOnlyError),
    *(redis.exceptions.OutOfMemoryError, redis.exceptions.ClusterDownError, redis.exceptions.MasterDownError),
    *(redis.exceptions.NoPermissionError, redis.exceptions.TryAgainError),
)
"""Errors that say nothing of the one message that was to be sent. Read before ``ChannelError``, which is not here."""

SILENCE = (TimeoutError, redis.exceptions.TimeoutError)


class BrokerAway(Exception):
    """The broker takes no connection, or does not answer on it."""


_away_until = 0.0


def seems_away() -> bool:
    """Whether this process has found the broker away a moment ago; asks nobody."""
    return time.monotonic() < _away_until


def note_away(is_away: bool) -> None:
    """Remember whether the broker was found away, for 15 seconds."""
    global _away_until
    _away_until = time.monotonic() + _REMEMBERED_SECONDS if is_away else 0.0


def connect(make: Callable[..., Any], within: float) -> Any:
    """A connection of ``make`` (of the app's) each of whose waits is bounded. Raises :class:`BrokerAway`."""
    found = make(connect_timeout=within)
    found.transport_options = {**found.transport_options, **_bounds(found.transport_cls, found, within)}
    try:
        # Each of several brokers once, and no waiting in between.
        found.ensure_connection(max_retries=max(0, len(found.alt) - 1), interval_start=0, timeout=within)
        line = found.connection
        if found.transport.driver_name == "py-amqp":
            line.transport.sock.settimeout(within)
    except Exception as error:
        hang_up(found, is_polite=False)
        note_away(is_away=True)
        raise BrokerAway(sentence(error)) from error
    note_away(is_away=False)
    return found


def _bounds(name: Any, connection: Any, within: float) -> dict[str, Any]:
    """Options of the transport that bound its sockets."""
    if getattr(connection.transport, "driver_type", "") != "redis":
        return {}
    options = connection.transport_options
    bounds = {"socket_timeout": within, "socket_connect_timeout": within, "retry_on_timeout": False}
    if str(name).startswith("sentinel"):
        return {**bounds, "sentinel_kwargs": {**(options.get("sentinel_kwargs") or {}), **bounds}}
    return bounds


@contextmanager
def connected(make: Callable[..., Any], within: float) -> Iterator[Any]:
    """Such a connection, closed at the end."""
    found = connect(make, within)
    is_polite = False
    try:
        yield found
        is_polite = True
    finally:
        hang_up(found, is_polite=is_polite)


def hang_up(connection: Any, *, is_polite: bool) -> None:
    """Close the sockets. AMQP waits for the answer to a goodbye, so one that is silent gets none."""
    with suppress(Exception):
        if is_polite or connection.transport.driver_name != "py-amqp":
            connection.release()
        else:
            connection.collect()


def sentence(error: BaseException) -> str:
    """``error`` in one line, with its class."""
    said = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
