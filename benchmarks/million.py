"""A run of a million items: how fast it is created, and that claims, a loop's memory and progress do not feel it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start

if TYPE_CHECKING:
    from automation.models import AutomationRun

MANY = 1_000_000
FEW = 10_000
CLAIMS = 200


def main() -> list[Claim]:
    """The same measurements with 10,000 items (the peer) and with 1,000,000."""
    with system():
        begun = time.perf_counter()
        few = create_run("bench-noop", start=False, items=FEW)
        few_rate = FEW / (time.perf_counter() - begun)
        begun = time.perf_counter()
        many = create_run("bench-noop", start=False, items=MANY)
        many_rate = MANY / (time.perf_counter() - begun)
        start(few)
        start(many)
        few_claim, many_claim = _claim_ms(few, many)
        few_progress, many_progress = _progress_ms(few), _progress_ms(many)
        few_memory, many_memory = _memory(few), _memory(many)
    same = {"is_larger_better": False, "note": f"{MANY:,} items (ours) against {FEW:,} (peer)"}
    return [
        Claim(
            "items created", many_rate, few_rate, "items/s", 200_000, 400_000, of_ratio=False, note=str(same["note"])
        ),
        Claim(
            "claim of a slice", many_claim, few_claim, "ms", 1.1, 1.0, is_larger_better=False, note=str(same["note"])
        ),
        Claim(
            "memory of a loop", many_memory, few_memory, "MiB", 1.1, 1.0, is_larger_better=False, note=str(same["note"])
        ),
        Claim(
            "progress of a run",
            many_progress,
            few_progress,
            "ms",
            50,
            10,
            of_ratio=False,
            is_larger_better=False,
            note=str(same["note"]),
        ),
    ]


def _claim_ms(*runs: AutomationRun) -> list[float]:
    from automation import leases
    from automation.leases.holders import Worker

    spent: list[list[float]] = [[] for _ in runs]
    stage_runs = [run.stages.get(slug="noop").pk for run in runs]
    for _ in range(CLAIMS):
        for times, stage_run in zip(spent, stage_runs, strict=True):
            begun = time.perf_counter()
            work = leases.claim(stage_run, Worker("benchmark", "benchmark"))
            times.append((time.perf_counter() - begun) * 1_000)
            assert work is not None
            leases.release(work)
    return [median(times) for times in spent]


def _progress_ms(run: AutomationRun) -> float:
    from automation.reports import progress

    spent = []
    for _ in range(20):
        begun = time.perf_counter()
        progress.snapshot(run)
        spent.append((time.perf_counter() - begun) * 1_000)
    return median(spent)


def _memory(run: AutomationRun) -> float:
    """Peak resident memory (MiB) of a fresh worker process that goes through the whole run."""
    from automation.models import AutomationRun
    from automation.runs import reconciler

    with worker("backend", "-Q", "stages", processes=1) as parent:
        child = parent.children()[0]
        while not AutomationRun.objects.filter(pk=run.pk, finished_at__isnull=False).exists():
            reconciler.reconcile()
            time.sleep(0.5)
        status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
