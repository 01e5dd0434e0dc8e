"""``kill -9`` of all processes of the stage worker under ``manage.py up``, ten times in a row: running again after?"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.harness import ROOT, Claim, median

KILLS = 10
HEALTHY_SECONDS = 5.0
"""Between an item done and the next kill: short, so that the supervisor's back-off is in the figures of a row."""
LEASE_SECONDS = 15.0
"""The peer waits for the lease to run out, as a queue without a supervisor does for its visibility timeout."""
LONGEST_SECONDS = 90.0


def main() -> list[Claim]:
    """A drill of 50 ms items on two processes."""
    with tempfile.TemporaryDirectory(prefix="slackwater-bench-") as directory:
        os.environ |= {"DATA_DIR": directory, "DJANGO_SETTINGS_MODULE": "backend.settings.dev", "WATCH_CAPACITY": "0"}
        os.environ.pop("DATABASE_URL", None)
        os.environ.pop("REDIS_URL", None)
        with _up(Path(directory)) as system:
            taken = []
            for _ in range(KILLS):
                _wait_for_progress(_done())
                time.sleep(HEALTHY_SECONDS)
                done = _done()
                began = time.monotonic()
                _kill_stage_worker(system)
                _wait_for_progress(max(done, _done()))
                taken.append(time.monotonic() - began)
    note = f"{KILLS} kills in a row, {HEALTHY_SECONDS:g} s apart, items of 50 ms on 2 processes; "
    note += ", ".join(f"{seconds:.1f}" for seconds in taken)
    return [
        _claim("kill -9 of all stage processes to the next item, worst", max(taken), 5, 3, note),
        _claim("kill -9 of all stage processes to the next item, median", median(taken), 5, 3, note),
    ]


def _claim(name: str, seconds: float, must: float, aim: float, note: str) -> Claim:
    return Claim(name, seconds, LEASE_SECONDS, "s", must, aim, of_ratio=False, is_larger_better=False, note=note)


@contextlib.contextmanager
def _up(data_dir: Path) -> Iterator[psutil.Process]:
    """``manage.py up`` running a long drill, and Django set up on its database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "manage.py", "up", "--port", str(port), "--concurrency", "2"]
    command += ["--run-pipeline", "drill", "--param", "items=1000000", "--param", "seconds=0.05"]
    with (data_dir / "printed.txt").open("wb") as printed:
        system = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=printed)
    try:
        _wait_for(lambda: "ready: " in (data_dir / "printed.txt").read_text())
        import django

        django.setup()
        _wait_for(lambda: _done() > 0)
        yield psutil.Process(system.pid)
    finally:
        from django.db import connections

        connections.close_all()
        system.send_signal(signal.SIGINT)
        system.wait(60)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing came of it in {LONGEST_SECONDS:g} s")
        time.sleep(0.02)


def _wait_for_progress(done: int) -> None:
    _wait_for(lambda: _done() > done)


def _done() -> int:
    """Items done so far, as committed."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(processed), 0)::bigint FROM automation_workslice")
        row = cursor.fetchone()
    return int(row[0])


def _kill_stage_worker(system: psutil.Process) -> None:
    for child in system.children():
        if "stages@%h" in child.cmdline():
            for process in [*child.children(recursive=True), child]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json(), flush=True)
