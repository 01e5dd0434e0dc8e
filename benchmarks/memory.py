"""Memory of a worker of two processes: its proportional share (PSS), beside a plain Celery worker's."""

from __future__ import annotations

from pathlib import Path

import psutil

from benchmarks.harness import Claim, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ITEMS = 400_000


def main() -> list[Claim]:
    """After no-op items; the plain worker has loaded nothing but Celery and one task."""
    with system():
        from django.conf import settings

        with worker("backend", "-Q", "stages") as parent:
            run = create_run("bench-noop", start=False, items=ITEMS, microseconds=0)
            start(run)
            wait_until_finished(run)
            ours = _mebibytes(parent)
        with worker("benchmarks.peers", env={"PEER_BROKER_URL": settings.CELERY_BROKER_URL}) as parent:
            peer = _mebibytes(parent)
    note = f"main process and two of the pool, after {ITEMS:,} no-op items; the peer has not worked"
    return [
        Claim(
            "memory (PSS) of a worker of two",
            ours,
            peer,
            "MiB",
            170,
            150,
            of_ratio=False,
            is_larger_better=False,
            note=note,
        )
    ]


def _mebibytes(parent: psutil.Process) -> float:
    shares = 0
    for process in (parent, *parent.children()):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        shares += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return shares / 1024


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
