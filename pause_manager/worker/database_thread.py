"""The one thread of a worker's main process that works with the database, besides the supervisor's own.

Whoever has something to read or write hands it in and waits for nothing. So a worker has two connections of ours,
however large its pool is, and whatever hangs in the database hangs one thread.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

from django.db import Error as DatabaseError

from pause_manager import database

logger = logging.getLogger("pause_manager.worker.database")

Job = Callable[[], object]


class DatabaseThread:
    """Runs jobs one after the other on a connection of its own. Start it after the pool has forked.

    A job that finds the database away is dropped, and told of once an outage: what must not be dropped is handed in
    again by its owner, who knows what is still to do.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self.is_away = False
        """Whether the last job found the database away."""

    def start(self) -> None:
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="slackwater-database", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Do what is handed in already, and end; waits so long for it."""
        self._is_stopping = True
        self._bell.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=seconds)

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def soon(self, name: str, job: Job, *, first: bool = False) -> None:
        """Have ``job`` run in its turn, or before all others. One of the same name that has not begun is replaced."""
        with self._lock:
            self._jobs[name] = job
            if first:
                self._jobs.move_to_end(name, last=False)
        self._bell.set()

    def _run(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            while (job := self._next()) is not None:
                self._do(*job)
            if self._is_stopping:
                database.close()
                return

    def _next(self) -> tuple[str, Job] | None:
        with self._lock:
            return self._jobs.popitem(last=False) if self._jobs else None

    def _do(self, name: str, job: Job) -> None:
        try:
            with database.own_connection():
                job()
            self.is_away = False
        except DatabaseError as error:
            if not database.is_away(error):
                logger.exception("%s failed: what it asked of the database makes no sense.", name)
            elif not self.is_away:
                logger.warning("The database is away (%s): %s waits.", str(error).strip(), name)
            self.is_away = database.is_away(error)
        except Exception:
            logger.exception("%s failed; the others go on.", name)
            database.close()


database_thread = DatabaseThread()
"""The one of this process; it runs in the main process of a worker only."""
