"""Threads with connections of their own, started by a barrier; the first error in one of them is raised by ``join``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, connections


class Racer(threading.Thread):
    """Runs ``work`` on its own database connection. ``backend`` is the PostgreSQL process id of that connection."""

    def __init__(self, work: Callable[[], Any], barrier: threading.Barrier | None = None) -> None:
        super().__init__(name="racer", daemon=True)
        self.work = work
        self.barrier = barrier
        self.backend: int | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                (self.backend,) = cursor.fetchone()
            if self.barrier is not None:
                self.barrier.wait(timeout=10)
            self.result = self.work()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    def join(self, timeout: float | None = 30) -> None:
        super().join(timeout)
        if self.is_alive():
            raise TimeoutError("the thread is still at work: is it blocked?")
        if self.error is not None:
            raise self.error


def in_thread(work: Callable[[], Any]) -> Racer:
    """``work`` in a thread of its own, started."""
    racer = Racer(work)
    racer.start()
    return racer


def wait_until_blocked(racer: Racer, seconds: float = 10) -> None:
    """Return once PostgreSQL says that the thread waits for a lock."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if racer.backend is not None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [racer.backend])
                if cursor.fetchone()[0]:
                    return
        if racer.error is not None:
            raise racer.error
        time.sleep(0.005)
    raise TimeoutError("the thread never waited for a lock")


def race(*works: Callable[[], Any]) -> list[Any]:
    """Start all ``works`` at the same moment; their results in order."""
    barrier = threading.Barrier(len(works))
    racers: Sequence[Racer] = [Racer(work, barrier) for work in works]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return [racer.result for racer in racers]
