"""A task that does nothing, pausable and as Celery's own: speed, statements, connections, while nothing is held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.harness import ROOT, Claim, Servers, median, system

TASKS = 2_000
WARM_UP = 300
ROUNDS = 7
PATIENCE_SECONDS = 120
WATCHED_SECONDS = 3

POOLS = (
    ("prefork 2", ("-P", "prefork", "-c", "2"), 0.90, 0.97),
    ("threads 8", ("-P", "threads", "-c", "8"), 0.85, 0.95),
    ("gevent 50", ("-P", "gevent", "-c", "50"), 0.85, 0.95),
)


@dataclass(frozen=True)
class Burst:
    """What ``TASKS`` tasks took: seconds by the clock, and seconds of the worker's processes' CPU."""

    wall: float
    cpu: float


class Worker:
    """A worker of the project, on a queue of its own."""

    def __init__(self, name: str, process: psutil.Process, store: Any) -> None:
        self.name = name
        self.process = process
        self.store = store

    def do(self, tasks: int) -> Burst:
        """Give it ``tasks`` messages at once, and wait until it has acknowledged them all.

        They were published for this queue before, and kept aside: sending them is no part of it.
        """
        self._publish(tasks)
        cpu, began = self._cpu(), time.perf_counter()
        self.store.rename(self._aside, self.name)
        while self.store.llen(self.name) or self.store.hlen("unacked"):
            if time.perf_counter() > began + PATIENCE_SECONDS or not self.process.is_running():
                raise RuntimeError(f"{self.name} has not done {tasks} tasks in {PATIENCE_SECONDS} s")
            time.sleep(0.002)
        return Burst(time.perf_counter() - began, self._cpu() - cpu)

    @property
    def _aside(self) -> str:
        return f"{self.name}.aside"

    def _publish(self, tasks: int) -> None:
        from celery import Celery

        elsewhere = f"{self.name}.unread"
        with Celery("sender", broker=os.environ["SHOP_BROKER"]) as sender, sender.producer_pool.acquire() as producer:
            for n in range(tasks):
                sender.send_task("shop.noop", (n,), queue=elsewhere, producer=producer, ignore_result=True)
        for message in self.store.lrange(elsewhere, 0, -1):
            self.store.rpush(self._aside, message.replace(elsewhere.encode(), self.name.encode()))
        self.store.delete(elsewhere)

    def _cpu(self) -> float:
        used = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                used += times.user + times.system
        return used


@contextmanager
def started(name: str, options: tuple[str, ...], *, is_plain: bool, store: Any) -> Iterator[Worker]:
    """A warm worker of queue ``name``; PostgreSQL knows its connections by that name."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.shop", "worker", "--loglevel", "ERROR", *options]
    command += ["-Q", name, "-n", f"{name}@bench", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    env = {**os.environ, "PGAPPNAME": name, "SHOP_PLAIN": "1" if is_plain else ""}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            worker = Worker(name, psutil.Process(child.pid), store)
            worker.do(WARM_UP)
            yield worker
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
                    process.kill()
                child.wait(20)
            log.seek(0)
            if "Traceback" in (complaints := log.read().decode()):
                sys.stderr.write(complaints)


def main() -> list[Claim]:
    """Both kinds of worker side by side, a burst each in turns; medians of the ratios of the pairs."""
    claims = []
    with system() as servers:
        import redis
        from django.conf import settings

        os.environ |= {"SHOP_BROKER": settings.CELERY_BROKER_URL, "REDIS_URL": settings.REDIS_URL}
        os.environ["DATABASE_URL"] = servers.postgres.layout.database_url
        store = redis.Redis.from_url(settings.REDIS_URL)
        for name, options, must, aim in POOLS:
            try:
                claims.append(_speed(name, options, must, aim, store))
            except RuntimeError as error:
                claims.append(_not_done(name, must, aim, error))
            print(claims[-1].as_json(), flush=True)
        for claim in (_statements(servers, store), *(_connections(count, store) for count in (2, 8))):
            claims.append(claim)
            print(claim.as_json(), flush=True)
    return claims


def _speed(name: str, options: tuple[str, ...], must: float, aim: float, store: Any) -> Claim:
    pairs: list[tuple[Burst, Burst]] = []
    queue = name.replace(" ", "-")
    with (
        started(f"plain-{queue}", options, is_plain=True, store=store) as plain,
        started(f"ours-{queue}", options, is_plain=False, store=store) as ours,
    ):
        for number in range(ROUNDS):
            if number % 2:
                peer = plain.do(TASKS)
                pairs.append((ours.do(TASKS), peer))
            else:
                pairs.append((ours.do(TASKS), plain.do(TASKS)))
    by_wall = median([peer.wall / our.wall for our, peer in pairs])
    by_cpu = median([peer.cpu / our.cpu for our, peer in pairs])
    peer_rate = median([TASKS / peer.wall for _, peer in pairs])
    cpu = [round(1e6 * median([burst.cpu for burst in side]) / TASKS) for side in zip(*pairs, strict=True)]
    note = (
        f"by CPU time {by_cpu:.3f} ({cpu[0]} and {cpu[1]} µs a task); {ROUNDS} pairs of {TASKS:,} no-op tasks, medians"
    )
    return Claim(f"pausable tasks vs Celery's, {name}", by_wall * peer_rate, peer_rate, "tasks/s", must, aim, note=note)


def _not_done(name: str, must: float, aim: float, error: Exception) -> Claim:
    return Claim(f"pausable tasks vs Celery's, {name}", 0, 1, "tasks/s", must, aim, note=f"not measured: {error}")


def _statements(servers: Servers, store: Any) -> Claim:
    """From the server's own log: what a burst has executed beyond what as many idle seconds have."""
    with started("ours-statements", ("-P", "prefork", "-c", "2"), is_plain=False, store=store) as worker:
        _log_statements(True)
        try:
            time.sleep(0.5)
            begin = _logged(servers)
            took = worker.do(TASKS).wall
            time.sleep(0.5)
            busy = _logged(servers) - begin
            begin = _logged(servers)
            time.sleep(took + 0.5)
            idle = _logged(servers) - begin
        finally:
            _log_statements(False)
    note = f"{busy} while {TASKS:,} tasks ran, {idle} in as many idle seconds; nothing was held"
    each = round(max(0, busy - idle) / TASKS, 2)
    return Claim(
        "statements a pausable task", each, 0, "statements", 0, 0, of_ratio=False, is_larger_better=False, note=note
    )


def _log_statements(is_on: bool) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET log_line_prefix = '%a: '")
        cursor.execute(f"ALTER SYSTEM SET log_statement = '{'all' if is_on else 'none'}'")
        cursor.execute("SELECT pg_reload_conf()")


def _logged(servers: Servers) -> int:
    lines = servers.postgres.log.read_text(errors="replace").splitlines()
    return sum(line.startswith("ours-statements: LOG:  ") for line in lines)


def _connections(processes: int, store: Any) -> Claim:
    """The most that the server had of one worker, busy and idle."""
    from django.db import connection

    name = f"ours-connections-{processes}"
    most = 0
    with started(name, ("-P", "prefork", "-c", str(processes)), is_plain=False, store=store) as worker:
        worker.do(TASKS)
        deadline = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < deadline:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name])
                most = max(most, cursor.fetchone()[0])
            time.sleep(0.02)
    return Claim(
        f"connections of ours, a worker of {processes} processes",
        most,
        0,
        "connections",
        2,
        2,
        of_ratio=False,
        is_larger_better=False,
        note="the most at any time after a burst, its main process and its pool together",
    )


if __name__ == "__main__":
    main()
