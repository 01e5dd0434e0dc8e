"""From the commit of a pause to the start of the last item, four processes at full load; with and without Redis."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from benchmarks.harness import Claim, Servers, percentile, system, worker
from benchmarks.site import create_run

if TYPE_CHECKING:
    from automation.models import AutomationRun

PROCESSES = 4
PAUSES = 60
PAUSES_WITHOUT_REDIS = 10
MICROSECONDS = 1_000
ITEMS = 2_000_000
POLL_MS = 1_000.0


def main() -> list[Claim]:
    """One long run of 1 ms items on four processes, paused and resumed at random times.

    The peer is what a loop does that asks the database each second: half a second in the middle, one at worst.
    """
    with system() as servers:
        run = create_run("bench-stamp", start=True, items=ITEMS, microseconds=MICROSECONDS)
        with worker("backend", "-Q", "stages", processes=PROCESSES):
            told = [_sample(run) for _ in range(PAUSES)]
            blind = [_sample(run, without=servers) for _ in range(PAUSES_WITHOUT_REDIS)]
    last_starts, settled = zip(*told, strict=True)
    blind_starts, _ = zip(*blind, strict=True)
    load = f"{PROCESSES} processes at full load, items of 1 ms"
    return [
        _claim(
            "pause committed to last item start, p99", percentile(last_starts, 0.99), 50, 20, f"{PAUSES} pauses, {load}"
        ),
        _claim(
            "pausing to paused, p99 (item + 100 ms)", percentile(settled, 0.99), 101, 50, f"{PAUSES} pauses, {load}"
        ),
        _claim(
            "pause committed to last item start without Redis, worst",
            max(blind_starts),
            1_500,
            1_000,
            f"{PAUSES_WITHOUT_REDIS} pauses with Redis stopped, {load}",
        ),
    ]


def _claim(name: str, ours: float, must: float, aim: float, note: str) -> Claim:
    return Claim(name, ours, POLL_MS, "ms", must, aim, of_ratio=False, is_larger_better=False, note=note)


def _sample(run: AutomationRun, without: Servers | None = None) -> tuple[float, float]:
    """Pause a fully loaded run; (commit to last item start, commit to no lease left), both in ms."""
    from django.db import transaction

    from automation.models import WorkSlice
    from automation.runs import lifecycle, reconciler
    from pause_manager.actor import Actor

    actor = Actor("system", "benchmark")
    leases = WorkSlice.objects.leased().filter(stage_run__run=run)
    deadline = time.monotonic() + 30
    while leases.count() < PROCESSES:
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected {PROCESSES} running loops, got {leases.count()}")
        time.sleep(0.5)
        reconciler.reconcile()
    outputs = run.stages.get(slug="stamp").outputs
    before = outputs.order_by("-id").values_list("id", flat=True).first() or 0
    if without is not None:
        without.redis.stop()
        time.sleep(2)
    time.sleep(random.uniform(0.2, 0.6))
    committed: list[float] = []
    with transaction.atomic():
        transaction.on_commit(lambda: committed.append(time.time()))
        lifecycle.pause(run.pk, actor=actor)
    while leases.exists():
        time.sleep(0.002)
    settled = time.time() - committed[0]
    last_start = max(
        payload["started_at"] for payload in outputs.filter(id__gt=before).values_list("payload", flat=True)
    )
    if without is not None:
        without.redis.start()
    lifecycle.resume(run.pk, actor=actor)
    return max(0.0, last_start - committed[0]) * 1_000, settled * 1_000


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
