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
from pause_manager.slots import shared_state, slot_table
from pause_manager.slots.listener import Listener
from pause_manager.slots.overruns import Overruns
from pause_manager.slots.shared_state import SharedState
from pause_manager.slots.slot_table import Slot
from pause_manager.slots.stop_publisher import BACKGROUND_WAIT, StopPublisher

logger = logging.getLogger("pause_manager.slots.standalone")

IDLE_SECONDS = 2.0
"""Without a loop for so long the thread ends, and with it its connections."""


def take_slot(scopes: Collection[str], about: Any) -> Slot:
    """A slot in the page of the worker that this process belongs to, else in one of its own."""
    here = shared_state.current()
    if here is not None and here.is_supervised:
        return slot_table.take(here, scopes, about)
    return standalone.take(scopes, about)


def supervising_process() -> str:
    """The process that keeps the slots of this one true and renews what its loops hold, see ``processes.identity``."""
    here = shared_state.current()
    if here is None or not here.is_supervised:
        return processes.identity()
    return processes.identity_of(here.writer)


class StandaloneSlots:
    """Of one process. The thread runs as long as loops do."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a child of the process: neither page nor thread is its own."""
        self._lock = threading.Lock()
        self._state: SharedState | None = None
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._read_due = 0.0

    @property
    def state(self) -> SharedState | None:
        """The page, if any loop has needed one."""
        return self._state

    def take(self, scopes: Collection[str], about: Any) -> Slot:
        """A slot that is kept true from now on."""
        with self._lock:
            if self._state is None:
                self._state = SharedState.make(is_told=False)
            slot = slot_table.take(self._state, scopes, about)
            self._read_due = 0.0
            if self._thread is None:
                sys.setswitchinterval(min(sys.getswitchinterval(), BACKGROUND_WAIT))
                self._listener = Listener()
                self._thread = threading.Thread(
                    target=self._run, args=(self._state, self._listener), name="slackwater-standalone", daemon=True
                )
                self._thread.start()
            elif self._listener is not None:
                self._listener.nudge()
        return slot

    def _run(self, here: SharedState, listener: Listener) -> None:
        publisher = StopPublisher(here, identity.known_name)
        overruns = Overruns(here, _at_once)
        idle_since = time.monotonic()
        while True:
            try:
                with database.own_connection():
                    self._round(publisher, overruns, listener)
            except DatabaseError as error:
                # What was said last stays; what cannot be read starts nothing new, and leases run out by themselves.
                if database.is_away(error):
                    database.log_outage(error, "the control state, of which the last known stays,")
                    metrics.DEGRADED.add(layer="holds")
                else:
                    logger.exception("The holds cannot be read, whatever the database's state.")
                listener.close()
                listener.wait(conf.settings().poll_seconds_without_redis)
            except Exception:
                logger.exception("The thread of the loops failed and continues.")
                listener.close()
                time.sleep(conf.settings().poll_seconds_without_redis)
            with self._lock:
                if next(slot_table.taken(here), None) is not None:
                    idle_since = time.monotonic()
                elif time.monotonic() > idle_since + IDLE_SECONDS:
                    self._thread = self._listener = None
                    break
        listener.end()

    def _round(self, publisher: StopPublisher, overruns: Overruns, listener: Listener) -> None:
        listener.open()
        now = time.monotonic()
        listener.wait(max(0.0, min(self._read_due, publisher.due, now + IDLE_SECONDS / 2) - now))
        rings = listener.rings()
        scopes = publisher.scopes()
        rings = [ring for ring in rings if not ring.scopes or not scopes.isdisjoint(ring.scopes)]
        publisher.foresee(rings)
        if scopes and (listener.was_rung or rings or time.monotonic() >= self._read_due):
            settings = conf.settings()
            listener.was_rung = False
            seconds = settings.poll_seconds if listener.hears else settings.poll_seconds_without_redis
            self._read_due = time.monotonic() + seconds
            publisher.obey(quiesced(scopes), read=scopes)
        if rings:
            publisher.judge(rings)
        if time.monotonic() >= publisher.due:
            publisher.judge()
        overruns.look(publisher)


def _at_once(_: str, job: Job) -> None:
    job()


standalone = StandaloneSlots()
"""The one of this process."""

os.register_at_fork(after_in_child=standalone.forget)
