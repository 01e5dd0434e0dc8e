"""The one thread of a worker's main process that works with the database, besides the supervisor's own.

A caller that has something to read or write hands it in and waits for nothing. So a worker has two connections of ours,
however large its pool is, and whatever hangs in the database hangs one thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pause_manager.database import session
from pause_manager.database.watchdog import watchdog

logger = logging.getLogger("pause_manager.worker.database")

Job = Callable[[], object]
HUNG_SECONDS = 30.0
"""A job that takes longer is broken off with its connection."""
TELL_SECONDS = 60.0
"""A job that fails again and again in the same way is told of once in so long."""


@dataclass
class _Round:
    job: Job
    seconds: Callable[[], float]
    due: float = 0.0


class DatabaseThread:
    """Runs jobs one after the other on a connection of its own. Start it after the pool has forked.

    A job that finds the database away is dropped, and told of once an outage: what must not be dropped is handed in
    again by its owner, who knows what is still to do.
    """

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}
        self._forget()

    def _forget(self) -> None:
        """In a child of the process: the thread is not here, and what was handed in is the parent's."""
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._told: dict[str, tuple[str, float]] = {}
        self.is_away = False
        """Whether the last job found the database away."""

    def start(self) -> None:
        """Begin, unless it runs already."""
        if self.is_running:
            return
        self._is_stopping = False
        for one in self._rounds.values():
            one.due = time.monotonic() + one.seconds()
        self._thread = threading.Thread(target=self._run, name="slackwater-database", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Do what is handed in already, each round once more, and end; waits so long for it."""
        self._is_stopping = True
        self._bell.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=seconds)

    @property
    def is_running(self) -> bool:
        """Whether what is handed in will be done."""
        return self._thread is not None and self._thread.is_alive() and not self._is_stopping

    def submit(self, name: str, job: Job, *, first: bool = False) -> None:
        """Have ``job`` run in its turn, or before all others. One of the same name that has not begun is replaced."""
        with self._lock:
            self._jobs[name] = job
            if first:
                self._jobs.move_to_end(name, last=False)
        self._bell.set()

    def repeat(self, name: str, job: Job, seconds: Callable[[], float]) -> None:
        """Have ``job`` run every ``seconds()`` for as long as the thread runs; ``seconds`` is asked each time.

        Declare it when the module is imported: it starts nothing.
        """
        self._rounds[name] = _Round(job, seconds)

    def _run(self) -> None:
        while True:
            self._bell.wait(max(0.0, self._next_round() - time.monotonic()))
            self._bell.clear()
            is_stopping = self._is_stopping
            for name, one in self._rounds.items():
                if is_stopping or one.due <= time.monotonic():
                    one.due = time.monotonic() + one.seconds()
                    self.submit(name, one.job)
            while (job := self._next()) is not None:
                self._do(*job)
            if is_stopping:
                session.close()
                return

    def _next_round(self) -> float:
        return min((one.due for one in self._rounds.values()), default=time.monotonic() + 60.0)

    def _next(self) -> tuple[str, Job] | None:
        with self._lock:
            return self._jobs.popitem(last=False) if self._jobs else None

    def _do(self, name: str, job: Job) -> None:
        try:
            with watchdog.limit(name, HUNG_SECONDS), session.own_connection():
                job()
            self.is_away = False
        except Exception as error:
            self.is_away = session.is_away(error)
            if self.is_away:
                session.log_outage(error, name)
                return
            self._complain(name, error)
            session.close()

    def _complain(self, name: str, error: Exception) -> None:
        word = f"{type(error).__name__}: {error}"
        before, at = self._told.get(name, ("", 0.0))
        if word != before or time.monotonic() > at + TELL_SECONDS:
            self._told[name] = (word, time.monotonic())
            logger.error("The job %r failed; the others continue.", name, exc_info=error)


database_thread = DatabaseThread()
"""The one of this process; it runs in the main process of a worker only."""

os.register_at_fork(after_in_child=database_thread._forget)
