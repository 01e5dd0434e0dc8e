"""Breaks off a connection to the database that took something and never answers, so that its thread can continue.

A server that is frozen, or a proxy that stalls, closes nothing: without this a thread would wait forever.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connection, connections

logger = logging.getLogger("pause_manager.database.watchdog")

TICK = 1.0


class Watchdog:
    """One thread that looks after all others of a process."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[str, float, Any]] = {}
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()

    def start(self) -> None:
        self._pause.clear()
        self._thread = threading.Thread(target=self._run, name="slackwater-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._pause.set()

    @contextmanager
    def limit(self, what: str, seconds: float) -> Iterator[None]:
        """Whatever this thread asks its connection meanwhile takes no longer than ``seconds``, or it is broken off."""
        key = threading.get_ident()
        # The object of this thread: the name stands for another one in the thread that looks.
        self._watched[key] = (what, time.monotonic() + seconds, connections[connection.alias])
        try:
            yield
        finally:
            self._watched.pop(key, None)

    def _run(self) -> None:
        while not self._pause.wait(TICK):
            for key, (what, until, own) in list(self._watched.items()):
                if time.monotonic() > until and self._watched.get(key, ("", 0.0, None))[2] is own:
                    logger.warning("The database does not answer (%s): the connection is broken off.", what)
                    cut(own.connection)


def cut(raw: Any) -> None:
    """End the connection of psycopg from another thread than its own, which then finds it lost."""
    with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)


watchdog = Watchdog()
"""The one of this process; it runs in the main process of a worker only."""
