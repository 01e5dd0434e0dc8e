"""What a supervisor hears: the doorbell in PostgreSQL, Redis beside it, and calls in its own process that wake it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import time
from typing import Any

import redis
from django.db import connection

from pause_manager import conf, database
from pause_manager.database.watchdog import watchdog
from pause_manager.messaging import pg_notifications
from pause_manager.messaging.pg_notifications import Notification
from pause_manager.messaging.redis_clients import Subscriber

logger = logging.getLogger("pause_manager.slots.listener")

SOON = 0.05


class Listener:
    """Used by one thread, but for :meth:`nudge`. Hears PostgreSQL on that thread's own connection.

    Redis away is told of once and tried again with each poll; PostgreSQL away raises ``DatabaseError``.
    """

    def __init__(self) -> None:
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._raw: Any = None
        self._ear: Subscriber | None = None
        self._redis_due = 0.0
        self._hears_postgresql = False
        self._heard: list[Notification] = []
        self.was_rung = False
        """Whether there is something to read: something was heard, or may have been missed."""

    @property
    def hears(self) -> bool:
        """Whether changes are told: by Redis, or by a PostgreSQL that has reported one.

        Behind PgBouncer in transaction mode it listens and never hears.
        """
        return self._ear is not None or self._hears_postgresql

    def nudge(self) -> None:
        """End the wait. From any thread; costs a write to a socket."""
        with contextlib.suppress(OSError):
            self._bell[1].send(b"x")

    def missed_one(self) -> None:
        """A change was read that nobody had told of."""
        self._hears_postgresql = False

    def open(self) -> None:
        """Listen, if that is not so already. What changed before was not told."""
        if self._raw is None or connection.connection is not self._raw or self._raw.closed:
            with watchdog.limit("the doorbell", 10.0):
                connection.ensure_connection()
                self._raw = connection.connection
                _bound(self._raw)
                self._hears_postgresql = False
                with connection.wrap_database_errors:
                    pg_notifications.listen(self._raw)
            self.was_rung = True
        if self._ear is None and time.monotonic() >= self._redis_due:
            settings = conf.settings()
            self._redis_due = time.monotonic() + settings.poll_seconds
            try:
                self._ear = Subscriber(settings.redis_url, settings.channel).__enter__()
                self.was_rung = True
            except (redis.RedisError, OSError) as error:
                self._lose_redis(error)

    def close(self) -> None:
        """Let the database go; it is opened again with the next :meth:`open`."""
        self._raw = None
        database.close()

    def end(self) -> None:
        """Let everything go, for good."""
        self.close()
        for end in self._bell:
            end.close()
        if self._ear is not None:
            with contextlib.suppress(Exception):
                self._ear.__exit__()
            self._ear = None

    def wait(self, seconds: float) -> None:
        """Wait until something can be heard, somebody nudges us, or ``seconds`` are over."""
        # What came in while a statement was in progress lies in the driver, where nobody can wait for it.
        self._hear()
        if self._heard:
            seconds = 0.0
        readers: list[Any] = [self._bell[0]]
        if self._raw is not None and not self._raw.closed:
            readers.append(self._raw.fileno())
        if self._ear is not None and (at := self._ear.socket) is not None:
            readers.append(at)
        try:
            with selectors.DefaultSelector() as selector:
                for reader in readers:
                    selector.register(reader, selectors.EVENT_READ)
                selector.select(seconds)
        except (OSError, ValueError, KeyError):
            # One of them was closed under our hands.
            self.close()
            time.sleep(SOON)
        with contextlib.suppress(BlockingIOError):
            while self._bell[0].recv(4096):
                pass

    def rings(self) -> list[Notification]:
        """What was told. Redis says only that something changed, and is believed while PostgreSQL is not heard."""
        self._hear()
        rings, self._heard = self._heard, []
        self._hears_postgresql = self._hears_postgresql or bool(rings)
        told = self._told_by_redis()
        return rings if self._hears_postgresql else rings + told

    def _hear(self) -> None:
        if self._raw is not None:
            with connection.wrap_database_errors:
                self._heard += pg_notifications.received(self._raw)

    def _told_by_redis(self) -> list[Notification]:
        rings: list[Notification] = []
        if self._ear is None:
            return rings
        try:
            silences = 0
            while silences < 2:  # one may be the answer to a ping
                message = self._ear.get(0)
                silences = 0 if message else silences + 1
                if message is not None and message["type"] == "message":
                    rings.append(Notification("changed", tuple(json.loads(message["data"]))))
        except (redis.RedisError, OSError) as error:
            self._lose_redis(error)
        return rings

    def _lose_redis(self, error: Exception) -> None:
        if self._ear is not None:
            logger.warning("Redis is away (%s): the database reports changes.", error)
            with contextlib.suppress(Exception):
                self._ear.__exit__()
        self._ear = None


def _bound(raw: Any) -> None:
    """Have the kernel notice a peer that has vanished, whatever the project's settings say."""
    try:
        with socket.socket(fileno=os.dup(raw.fileno())) as copy:
            if copy.family in (socket.AF_INET, socket.AF_INET6):
                copy.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_USER_TIMEOUT", 10_000)):
                    if hasattr(socket, option):
                        copy.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    except OSError:
        logger.debug("The socket of the database could not be bounded.")
