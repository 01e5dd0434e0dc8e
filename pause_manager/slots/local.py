"""Slots for loops outside a worker: the page is the process's own, and a thread keeps it as a supervisor would."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Collection
from typing import Any

from django.db import Error as DatabaseError

from pause_manager import conf, database
from pause_manager.database.thread import Job
from pause_manager.holds.stops import quiesced
from pause_manager.nodes.machines import identity
from pause_manager.observability import metrics
from pause_manager.probes import processes
from pause_manager.slots import page, slots
from pause_manager.slots.keeper import BACKGROUND_WAIT, Keeper
from pause_manager.slots.listener import Listener
from pause_manager.slots.overruns import Overruns
from pause_manager.slots.page import Page
from pause_manager.slots.slots import Slot

logger = logging.getLogger("pause_manager.slots.local")

IDLE_SECONDS = 2.0
"""Without a loop for so long the thread ends, and with it its connections."""


def take_slot(scopes: Collection[str], about: Any) -> Slot:
    """A slot in the page of the worker that this process belongs to, else in one of its own."""
    here = page.current()
    if here is not None and here.is_supervised:
        return slots.take(here, scopes, about)
    return local.take(scopes, about)


def keeper() -> str:
    """The process that keeps the slots of this one true and renews what its loops hold, see ``processes.identity``."""
    here = page.current()
    if here is None or not here.is_supervised:
        return processes.identity()
    return processes.identity_of(here.writer)


class Local:
    """Of one process. The thread runs as long as loops do."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a child of the process: neither page nor thread is its own."""
        self._lock = threading.Lock()
        self._page: Page | None = None
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._read_due = 0.0

    @property
    def page(self) -> Page | None:
        """The page, if any loop has needed one."""
        return self._page

    def take(self, scopes: Collection[str], about: Any) -> Slot:
        """A slot that is kept true from now on."""
        with self._lock:
            if self._page is None:
                self._page = Page.make(is_told=False)
            slot = slots.take(self._page, scopes, about)
            self._read_due = 0.0
            if self._thread is None:
                sys.setswitchinterval(min(sys.getswitchinterval(), BACKGROUND_WAIT))
                self._listener = Listener()
                self._thread = threading.Thread(
                    target=self._run, args=(self._page, self._listener), name="slackwater-local", daemon=True
                )
                self._thread.start()
            elif self._listener is not None:
                self._listener.nudge()
        return slot

    def _run(self, here: Page, listener: Listener) -> None:
        keeper = Keeper(here, identity.known_name)
        overruns = Overruns(here, _at_once)
        idle_since = time.monotonic()
        while True:
            try:
                with database.own_connection():
                    self._round(keeper, overruns, listener)
            except DatabaseError as error:
                # What was said last stays; what cannot be read starts nothing new, and leases run out by themselves.
                if database.is_away(error):
                    database.note_away(error, "the control state, of which the last known stays,")
                    metrics.DEGRADED.add(layer="holds")
                else:
                    logger.exception("The holds cannot be read, whatever the database's state.")
                listener.close()
                listener.wait(conf.settings().poll_seconds_without_redis)
            except Exception:
                logger.exception("The thread of the loops failed and goes on.")
                listener.close()
                time.sleep(conf.settings().poll_seconds_without_redis)
            with self._lock:
                if next(slots.taken(here), None) is not None:
                    idle_since = time.monotonic()
                elif time.monotonic() > idle_since + IDLE_SECONDS:
                    self._thread = self._listener = None
                    break
        listener.end()

    def _round(self, keeper: Keeper, overruns: Overruns, listener: Listener) -> None:
        listener.open()
        now = time.monotonic()
        listener.wait(max(0.0, min(self._read_due, keeper.due, now + IDLE_SECONDS / 2) - now))
        rings = listener.rings()
        scopes = keeper.scopes()
        rings = [ring for ring in rings if not ring.scopes or not scopes.isdisjoint(ring.scopes)]
        keeper.foresee(rings)
        if scopes and (listener.was_rung or rings or time.monotonic() >= self._read_due):
            settings = conf.settings()
            listener.was_rung = False
            seconds = settings.poll_seconds if listener.hears else settings.poll_seconds_without_redis
            self._read_due = time.monotonic() + seconds
            keeper.obey(quiesced(scopes), read=scopes)
        if rings:
            keeper.judge(rings)
        if time.monotonic() >= keeper.due:
            keeper.judge()
        overruns.look(keeper)


def _at_once(_: str, job: Job) -> None:
    job()


local = Local()
"""The one of this process."""

os.register_at_fork(after_in_child=local.forget)
