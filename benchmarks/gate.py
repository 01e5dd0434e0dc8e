"""What the gate costs: one run in which every other slice is claimed with capacity watched, and what a sample costs.

Minutes on a shared machine differ by a quarter; neighbouring slices of one process do not.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise

from benchmarks.harness import Claim, mean, median, system, watch_capacity, worker
from benchmarks.site import create_run, wait_until_finished

RUNS = 6
ITEMS = 1_600_000
SLICE = 10_000
SAMPLES = 30
LEFT_OUT = 0.05
"""Of the longest and of the shortest slices: in some the database's checkpoint falls."""


def main() -> list[Claim]:
    """Slices of several runs on two worker processes; then samples of this machine while one more is running."""
    with system():
        from django.conf import settings

        settings.PAUSE_MANAGER["capacity"] = True
        watch_capacity(True)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        with worker("backend", "-Q", "stages"):
            _wait_for_room()
            for _ in range(RUNS):
                _take_turns(seconds)
            run = create_run("bench-turns", start=True, items=ITEMS)
            sample_ms = _sample_ms()
            wait_until_finished(run)
    count = min(len(taken) for taken in seconds.values())
    return [
        Claim(
            "throughput with the capacity gate",
            SLICE / _trimmed(seconds[True]),
            SLICE / _trimmed(seconds[False]),
            "items/s a process",
            0.95,
            0.97,
            note=f"no-op items with one output each, 2 worker processes; {count} slices of {SLICE:,} items claimed "
            "with capacity watched ÷ as many without, in turns",
        ),
        Claim(
            "processor time of a sample of the node",
            median(sample_ms),
            1_000,
            "ms",
            10,
            5,
            of_ratio=False,
            is_larger_better=False,
            note="one per second on each machine, under load: probes, loads, judgement; peer: a second of one core",
        ),
    ]


def _take_turns(seconds: dict[bool, list[float]]) -> None:
    """Add how long each slice of one run took, from the first item of the one before it, by how it was claimed."""
    run = create_run("bench-turns", start=True, items=ITEMS)
    wait_until_finished(run)
    notes = run.stages.get(position=0).outputs.filter(payload__has_key="process").values_list("payload", flat=True)
    by_process: dict[int, list[tuple[float, bool]]] = {}
    for note in notes:
        by_process.setdefault(note["process"], []).append((note["at"], note["is_watched"]))
    for begun in by_process.values():
        for (before, _), (at, is_watched) in pairwise(sorted(begun)):
            seconds[is_watched].append(at - before)


def _trimmed(values: list[float]) -> float:
    """The mean without the extremes."""
    ordered = sorted(values)
    cut = int(len(ordered) * LEFT_OUT)
    return mean(ordered[cut : len(ordered) - cut])


def _sample_ms() -> list[float]:
    """Processor time of this thread for one sample and all that is done with it, each second."""
    from pause_manager import nodes
    from pause_manager.probes.sampler import Sampler
    from pause_manager.worker.node_monitor import NodeMonitor

    sampler, watch = Sampler(), NodeMonitor()
    spent: list[float] = []
    try:
        for _ in range(SAMPLES):
            time.sleep(1)
            begun = time.thread_time()
            report = sampler.read(frozenset({os.getpid()}))
            if report is None:
                continue
            sample = sampler.sample("bench", [report])
            nodes.announce(sample)
            if not spent:
                nodes.save_sample(sample)
            watch(sample.view, speaks=True)
            spent.append((time.thread_time() - begun) * 1_000)
    finally:
        sampler.close()
    return spent


def _wait_for_room() -> None:
    """A worker's first sample comes a second after its start; before it there is no room to be seen."""
    from pause_manager import manager
    from pause_manager.capacity.needs import Needs

    while manager.should_pause(Needs()).should_pause:
        time.sleep(0.1)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
