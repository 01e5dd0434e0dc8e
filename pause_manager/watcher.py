"""One thread a worker process that keeps every :class:`Watch` true: it hears, it reads, it answers from memory."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import redis

from pause_manager import conf, database, metrics
from pause_manager.models import Hold
from pause_manager.redis_clients import Ear

logger = logging.getLogger("pause_manager.watcher")

BACKGROUND_WAIT = 0.0005
"""Seconds a busy thread may keep the interpreter from the watcher; the default of 5 ms adds 10 ms (p99)."""


@dataclass(frozen=True)
class Stop:
    """Why a loop must stop: a short code for machines and a sentence for people."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def quiesced(scopes: Iterable[str]) -> dict[str, Stop]:
    """Those of ``scopes`` of which a hold stops at the next item what is at work, each with that stop. One query."""
    holds = Hold.objects.covering(scopes).filter(mode=Hold.Mode.QUIESCE).values_list("scope", "kind", "reason")
    return {
        scope: Stop("held", f"{kind} hold: {reason}" if reason else f"{kind} hold on {scope.split(':')[0]}")
        for scope, kind, reason in holds
    }


class Watch:
    """What one loop watches: its scopes, and the heartbeat it handed in. The watcher sets ``stop``, or ``None``."""

    __slots__ = ("beat_seconds", "heartbeat", "next_beat", "scopes", "stop")

    def __init__(self, scopes: Iterable[str], heartbeat: Callable[[], Stop | None] | None, beat_seconds: float) -> None:
        self.scopes = frozenset(scopes)
        self.heartbeat = heartbeat
        self.beat_seconds = beat_seconds
        self.next_beat = float("inf") if heartbeat is None else time.monotonic() + beat_seconds
        self.stop: Stop | None = None


class Watcher:
    """The watcher of this process. Started by the first watch; safe with prefork, threads, gevent and solo pools."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._watches: set[Watch] = set()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._shutdown: Stop | None = None
        self.is_listening = False
        """Whether Redis tells this process of changes; if not, it polls faster."""

    def watch(
        self,
        scopes: Iterable[str],
        *,
        heartbeat: Callable[[], Stop | None] | None = None,
        beat_seconds: float = 5.0,
        is_read_now: bool = True,
    ) -> Watch:
        """Keep a new :class:`Watch` true from now on. Its state is read at once, on the caller's connection.

        Without ``is_read_now`` the thread reads it, and goes on trying while the database is away.
        """
        watch = Watch(scopes, heartbeat, beat_seconds)
        with self._lock:
            self._watches.add(watch)
            self._ensure_thread()
        if not is_read_now:
            return watch
        try:
            self.refresh([watch])
        except BaseException:
            self.forget(watch)
            raise
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop keeping ``watch``."""
        with self._lock:
            self._watches.discard(watch)

    def stop_all(self, reason: Stop) -> None:
        """Stop every loop of this process, now and later: it is about to end. Safe in a signal handler."""
        self._shutdown = reason
        for watch in tuple(self._watches):
            watch.stop = reason

    def refresh(self, watches: Iterable[Watch]) -> None:
        """Read the control state of ``watches`` from the database, with one statement, and call their heartbeats."""
        watches = list(watches)
        if not watches:
            return
        scopes = frozenset[str]().union(*(watch.scopes for watch in watches))
        # Two reads must not overtake each other, or the older one's answer would stand.
        with self._reading:
            holds = quiesced(scopes)
            held = {watch: next((holds[scope] for scope in watch.scopes if scope in holds), None) for watch in watches}
            for watch, hold in held.items():
                # At once: the heartbeats below wait for a commit each.
                watch.stop = watch.stop or hold
            for watch, hold in held.items():
                self._judge(watch, hold)

    def _judge(self, watch: Watch, held: Stop | None) -> None:
        stop = None
        if watch.heartbeat is not None:
            # In a shutdown too: the item at hand may take longer than the lease lasts.
            stop = watch.heartbeat()
            watch.next_beat = time.monotonic() + watch.beat_seconds
        watch.stop = self._shutdown or stop or held

    def _ensure_thread(self) -> None:
        if self._thread is not None and self._pid == os.getpid() and self._thread.is_alive():
            return
        sys.setswitchinterval(min(sys.getswitchinterval(), BACKGROUND_WAIT))
        self._pid = os.getpid()
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="slackwater-watcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._listen_or_poll()
            except Exception as error:
                # Last known state stays; what cannot be read starts nothing new, and leases run out by themselves.
                if database.is_away(error):
                    database.note_away(error, "the control state, of which the last known stays,")
                    metrics.DEGRADED.add(layer="holds")
                else:
                    logger.exception("The watcher failed and goes on.")
                time.sleep(conf.settings().poll_seconds_without_redis)

    def _listen_or_poll(self) -> None:
        try:
            self._listen()
        except redis.RedisError as error:
            if self.is_listening:
                logger.warning("Redis is away (%s): polling for control changes instead.", error)
            self.is_listening = False
        self._refresh_all()
        time.sleep(conf.settings().poll_seconds_without_redis)

    def _listen(self) -> None:
        settings = conf.settings()
        with Ear(settings.redis_url, settings.channel) as ear:
            next_poll = 0.0
            while True:
                # Due at once after subscribing: what changed before it was not told.
                wait = max(0.0, min(next_poll, self._next_beat()) - time.monotonic())
                message = ear.get(wait)
                if message is not None and message["type"] == "subscribe":
                    self.is_listening = True
                elif message is not None and message["type"] == "message":
                    self._heard(message["data"])
                if time.monotonic() >= next_poll:
                    self._refresh_all()
                    next_poll = time.monotonic() + settings.poll_seconds
                self._beat()

    def _heard(self, data: bytes) -> None:
        scopes = set(json.loads(data))
        with self._lock:
            watches = [watch for watch in self._watches if not scopes.isdisjoint(watch.scopes)]
        self._refresh(watches)

    def _refresh_all(self) -> None:
        with self._lock:
            watches = list(self._watches)
        self._refresh(watches)

    def _refresh(self, watches: list[Watch]) -> None:
        """``refresh`` in our own thread, on its own connection."""
        if watches:
            with database.own_connection():
                self.refresh(watches)

    def _next_beat(self) -> float:
        with self._lock:
            return min((watch.next_beat for watch in self._watches), default=float("inf"))

    def _beat(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [watch for watch in self._watches if watch.next_beat <= now]
        self._refresh(due)


watcher = Watcher()
"""The one watcher of this process."""
