"""Real servers with fsync on, real worker processes, and the shape of a result."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from backend.embedded import Server

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Claim:
    """``ratio`` is ours ÷ peer; ``holds`` says whether it meets ``must`` in the direction of ``better``."""

    name: str
    ours: float
    peer: float
    unit: str
    must: float
    aim: float
    of_ratio: bool = True
    is_larger_better: bool = True
    note: str = ""

    def as_json(self) -> str:
        """One line for machines and people."""
        ratio = self.ours / self.peer if self.peer else float("nan")
        value = ratio if self.of_ratio else self.ours
        holds = value >= self.must if self.is_larger_better else value <= self.must
        data = asdict(self) | {"ours": rounded(self.ours), "peer": rounded(self.peer), "ratio": rounded(ratio)}
        data.pop("of_ratio")
        data.pop("is_larger_better")
        return json.dumps(data | {"holds": holds})


def rounded(value: float) -> float:
    """``value`` to four significant digits."""
    return float(f"{value:.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The ``share`` (0 to 1) quantile of ``values``, the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return statistics.fmean(values)


@dataclass(frozen=True)
class Servers:
    """The servers of a benchmark."""

    postgres: Server
    redis: Server


@contextmanager
def system(kept: Path | None = None) -> Iterator[Servers]:
    """An empty PostgreSQL (fsync on) and Redis in a temporary directory, and Django set up on them.

    With ``kept`` they are in that directory, as they were left, and stay there.
    """
    with nullcontext(str(kept)) if kept else tempfile.TemporaryDirectory(prefix="slackwater-bench-") as directory:
        os.environ |= {"DATA_DIR": directory, "DJANGO_SETTINGS_MODULE": "backend.settings.dev", "LOG_LEVEL": "ERROR"}
        os.environ["SLACKWATER_APPS"] = "benchmarks"
        # What the gate costs is measured by itself; and all that is started here is ours, as under `manage.py up`.
        os.environ["SLACKWATER_ROOT_PID"] = str(os.getpid())
        os.environ.pop("DATABASE_URL", None)
        os.environ.pop("REDIS_URL", None)
        from backend.embedded import Layout, Postgres, Redis

        layout = Layout(Path(directory))
        layout.create()
        servers: list[Server] = [Postgres(layout), Redis(layout)]
        try:
            for server in servers:
                server.start()
            import django

            django.setup()
            from django.core.management import call_command

            call_command("migrate", verbosity=0)
            watch_capacity(False)
            yield Servers(*servers)
        finally:
            from django.db import connections

            connections.close_all()
            for server in reversed(servers):
                server.stop()


def watch_capacity(is_watched: bool) -> None:
    """Whether the system asks for room before work starts."""
    from pause_manager.actor import SYSTEM
    from pause_manager.nodes import watching

    watching.set_watched(is_watched, actor=SYSTEM, reason="a benchmark")


@contextmanager
def worker(
    app: str, *arguments: str, processes: int = 2, env: dict[str, str] | None = None
) -> Iterator[psutil.Process]:
    """A prefork Celery worker of ``processes`` children, ready for messages."""
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "ERROR", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat", "-c", str(processes), *arguments]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=log, stderr=log)
        try:
            _wait_until_ready(child, processes)
            yield psutil.Process(child.pid)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
            log.seek(0)
            complaints = log.read().decode()
            if "Traceback" in complaints:
                sys.stderr.write(complaints)


def _wait_until_ready(child: subprocess.Popen[bytes], processes: int) -> None:
    parent = psutil.Process(child.pid)
    deadline = time.monotonic() + 90
    while len(parent.children()) < processes:
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the worker did not start")
        time.sleep(0.1)
    time.sleep(1.0)
