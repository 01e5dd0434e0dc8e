"""From the commit of a toggle of the fleet to the last start of anything on eight workers at full load."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.harness import Claim, percentile, system, worker
from benchmarks.pause import POLL_MS
from benchmarks.pipelines import StampShort
from benchmarks.site import create_run, start

if TYPE_CHECKING:
    from automation.models import AutomationRun

WORKERS = 8
TOGGLES = 50
ITEMS = 3_000_000
MICROSECONDS = 1_000
PATIENCE_SECONDS = 60


def main() -> list[Claim]:
    """One long run in short slices on eight workers, each with a process of its own, toggled at random times.

    A quiesce lets no item start; a drain lets no slice start, and its items continue. The peer is what a worker does
    that asks the database each second.
    """
    with system(), ExitStack() as running:
        run = create_run("bench-stamp-short", start=False, items=ITEMS, microseconds=MICROSECONDS)
        for number in range(WORKERS):
            running.enter_context(worker("backend", "-Q", "stages", "-n", f"w{number}@bench", processes=1))
        # Now, or those that are there keep the others from starting.
        start(run)
        quiesced, drained = [], []
        for _ in range(TOGGLES):
            quiesced.append(_sample(run, "quiesce"))
            drained.append(_sample(run, "drain"))
    load = f"{TOGGLES} toggles each, {WORKERS} workers at full load, items of 1 ms, {StampShort.slice_size} a slice"
    items, slices = [started for started, _ in quiesced], [started for started, _ in drained]
    heard = [acknowledged for _, acknowledged in quiesced + drained]
    return [
        _claim("quiesce committed to last item start, p99", items, 250, 50, load),
        _claim("drain committed to last start of a slice, p99", slices, 250, 50, load),
        _claim("toggle committed to acknowledged by all, p99", heard, 5_000, 1_000, load),
    ]


def _claim(name: str, found: list[float], must: float, aim: float, note: str) -> Claim:
    p99 = percentile(found, 0.99)
    return Claim(name, p99, POLL_MS, "ms", must, aim, of_ratio=False, is_larger_better=False, note=note)


def _sample(run: AutomationRun, mode: str) -> tuple[float, float]:
    """Pause the fully loaded fleet; ms from the commit to the last start that ``mode`` forbids, and to the last ack."""
    from django.db import transaction

    from automation.models import WorkSlice
    from pause_manager import fleet
    from pause_manager.actor import Actor

    actor = Actor("system", "benchmark")
    leases = WorkSlice.objects.leased().filter(stage_run__run=run)
    _wait_for_full_load(run)
    outputs = run.stages.get(slug="stamp").outputs
    before = outputs.order_by("-id").values_list("id", flat=True).first() or 0
    time.sleep(random.uniform(0.2, 0.6))
    committed: list[float] = []
    with transaction.atomic():
        transaction.on_commit(lambda: committed.append(time.time()))
        fleet.pause(mode=mode, reason="benchmark", actor=actor)
    acknowledged = _wait_for_workers() - committed[0]
    while leases.exists():
        time.sleep(0.002)
    made = outputs.filter(id__gt=before).values_list("payload", flat=True)
    starts = [item["started_at"] for item in made if mode == "quiesce" or item["n"] % StampShort.slice_size == 0]
    fleet.resume(reason="benchmark", actor=actor, force=True)
    return max(0.0, max(starts) - committed[0]) * 1_000, acknowledged * 1_000


def _wait_for_full_load(run: AutomationRun) -> None:
    """Return when each worker has had a lease lately: short slices leave gaps between two of them."""
    from automation.models import WorkSlice
    from automation.runs import reconciler

    leases = WorkSlice.objects.leased().filter(stage_run__run=run)
    seen: set[str] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    reconciled_at = 0.0
    while len(seen) < WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected {WORKERS} running workers, got {len(seen)}")
        if time.monotonic() - reconciled_at > 0.5:
            reconciler.reconcile()
            reconciled_at = time.monotonic()
        seen.update(leases.values_list("lease_owner", flat=True))
        time.sleep(0.01)


def _wait_for_workers() -> float:
    """The time at which every worker has acknowledged the change."""
    from pause_manager import fleet
    from pause_manager.nodes import members

    version = fleet.state().version
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := members.of_version(version)).acknowledged < WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected {WORKERS} workers to obey, got {found.acknowledged} of {found.total}")
        time.sleep(0.005)
    return time.time()


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
