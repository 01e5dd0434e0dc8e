"""The work in the database that a worker's decisions need, in its order, each write until it is committed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import Error as DatabaseError

from pause_manager import database
from pause_manager.database.thread import database_thread
from pause_manager.observability import metrics
from pause_manager.pausable import confirmations, redispatch
from pause_manager.worker.event_loop import event_loop

if TYPE_CHECKING:
    from pause_manager.worker.request import PausableRequest

logger = logging.getLogger("pause_manager.worker.pending_writes")

AT_A_TIME = 200
"""PendingWrites of one round; then others who wait for the database have their turn."""
ROUND_SECONDS = 10.0
"""A round that others' locks have made so long ends, well before it would pass for hung."""
LOCKED = "55P03"

Write = Callable[[], Callable[[], None] | None]
"""Works in the database, maybe several times; answers what the worker's loop is to do when that is committed."""


class PendingWrites:
    """The writes that are not done yet, and the turns whose rows nobody needs any more. Used from any thread."""

    def __init__(self, cannot: Callable[[PausableRequest | None, Write, Exception], None]) -> None:
        self._cannot = cannot
        self._writes: deque[tuple[PausableRequest | None, Write]] = deque()
        self._left: set[UUID] = set()
        self._lock = threading.Lock()
        self.tell_supervisor: Callable[[], None] = lambda: None
        """Set by the supervisor: it is to look at the holds at once."""

    def add(self, request: PausableRequest | None, write: Write) -> None:
        """Do ``write``, for ``request`` if it is about one; again while the database is away."""
        with self._lock:
            self._writes.append((request, write))
        self.ask()

    def leave(self, turn: UUID, *, now: bool = True) -> None:
        """The task of ``turn`` has ended: its row goes, with those of others; with the next round unless ``now``."""
        with self._lock:
            self._left.add(turn)
        if now:
            self.ask()

    def forget(self, request: PausableRequest) -> None:
        with self._lock:
            self._writes = deque(one for one in self._writes if one[0] is not request)

    def withdraw(self, which: Callable[[PausableRequest], bool]) -> list[PausableRequest]:
        """Take the writes of the requests that ``which`` is true of out again; those requests."""
        with self._lock:
            out = [one for one, _ in self._writes if one is not None and which(one)]
            going = {id(one) for one in out}
            self._writes = deque((one, write) for one, write in self._writes if id(one) not in going)
        return out

    def requests(self) -> list[Any]:
        with self._lock:
            return [one for one, _ in self._writes if one is not None]

    @property
    def is_empty(self) -> bool:
        return not self._writes and not self._left

    def ask(self) -> None:
        """Have a round made soon."""
        database_thread.submit("deliveries", self.work, first=True)

    def work(self) -> None:
        """One round, in the database thread. What the database cannot do now stays, in its place."""
        self._let_go()
        until = time.monotonic() + ROUND_SECONDS
        with self._lock:
            untried = len(self._writes)
        for _ in range(min(untried, AT_A_TIME)):
            with self._lock:
                if not self._writes or time.monotonic() > until:
                    break
                request, write = self._writes.popleft()
                untried -= 1
            try:
                then = write()
            except DatabaseError as error:
                if not database.is_away(error):
                    self._cannot(request, write, error)
                    database.close()
                    continue
                is_locked = database.sqlstate(error) == LOCKED
                with self._lock:
                    # One that waits for somebody's lock does not keep the others waiting: it has its turn at a tick.
                    (self._writes.append if is_locked else self._writes.appendleft)((request, write))
                metrics.DEGRADED.add(layer="holds")
                if is_locked:
                    continue
                raise
            except Exception as error:
                self._cannot(request, write, error)
                continue
            if then is not None:
                event_loop.call(then)
        if untried > 0:
            self.ask()

    def _let_go(self) -> None:
        with self._lock:
            turns = list(self._left)
        if not turns:
            return
        try:
            if confirmations.finished(turns):
                redispatch.send_for_places()
        except Exception as error:
            if database.sqlstate(error) == LOCKED:
                return  # With the next tick.
            if database.is_away(error):
                raise
            logger.exception("The rows of %d tasks that have ended stay: they count as lost in time.", len(turns))
            database.close()
        with self._lock:
            self._left.difference_update(turns)
        self.tell_supervisor()
