"""What the gate costs: two runs at a time on one machine, capacity watched for one of them, and for the other not.

Minutes on a shared machine differ by a quarter, one and the same minute does not: so both work beside each other, each
with a worker process of its own. The sides differ by a tenth by themselves (who was started first, whose rows lie
where), so that they change over, and what is told is the geometric mean, in which that cancels out.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from benchmarks.harness import Claim, system, worker
from benchmarks.site import create_run, start, wait_until_finished

if TYPE_CHECKING:
    from datetime import datetime

    from automation.models import AutomationRun

ROUNDS = 8
"""An even number: each side is watched as often as the other."""
ITEMS = 500_000
SIDES = {"bench-here": "stages", "bench-there": "there"}
"""Pipeline and queue of each side."""


@dataclass(frozen=True)
class Side:
    """What a side did while both were at work."""

    rate: float
    """Items a second."""
    processor_us: float
    """Processor time of the worker's processes an item, sampling with it."""


def main() -> list[Claim]:
    """Means of rounds in which now one side is watched and now the other."""
    with system():
        _round("bench-here")
        rounds = [_round(list(SIDES)[number % 2]) for number in range(ROUNDS)]
    note = f"{ITEMS:,} no-op items a run in slices of 10,000; two runs side by side, capacity watched ÷ not watched"
    return [
        Claim(
            "throughput with the capacity gate",
            statistics.geometric_mean([watched.rate for watched, _ in rounds]),
            statistics.geometric_mean([other.rate for _, other in rounds]),
            "items/s",
            0.95,
            0.97,
            note=note,
        ),
        Claim(
            "processor time with the capacity gate",
            statistics.geometric_mean([watched.processor_us for watched, _ in rounds]),
            statistics.geometric_mean([other.processor_us for _, other in rounds]),
            "µs an item",
            1.05,
            1.03,
            is_larger_better=False,
            note=f"{note}; of the worker's processes, sampling with it",
        ),
    ]


def _round(watched: str) -> tuple[Side, Side]:
    """The side of ``watched`` and the other one."""
    from django.conf import settings

    settings.PAUSE_MANAGER["capacity"] = True
    runs = {pipeline: create_run(pipeline, start=False, items=ITEMS) for pipeline in SIDES}
    with ExitStack() as stack:
        workers = {
            pipeline: stack.enter_context(
                worker(
                    "backend",
                    *("-Q", queue, "-n", f"{queue}@%h"),
                    processes=1,
                    env={"WATCH_CAPACITY": str(int(pipeline == watched))},
                )
            )
            for pipeline, queue in SIDES.items()
        }
        _wait_for_room()
        before = {pipeline: _processor_seconds(workers[pipeline]) for pipeline in SIDES}
        for run in runs.values():
            start(run)
        _wait_until_one_is_done(list(runs.values()))
        spent = {pipeline: _processor_seconds(workers[pipeline]) - before[pipeline] for pipeline in SIDES}
        done = {pipeline: sum(size for _, size in _finished(run)) for pipeline, run in runs.items()}
        for run in runs.values():
            wait_until_finished(run)
    rates = _rates(runs)
    sides = {pipeline: Side(rates[pipeline], 1e6 * spent[pipeline] / done[pipeline]) for pipeline in SIDES}
    (other,) = SIDES.keys() - {watched}
    return sides[watched], sides[other]


def _rates(runs: dict[str, AutomationRun]) -> dict[str, float]:
    """Items a second of each, from its first slice to the last one that it finished while both were at work."""
    finished = {pipeline: _finished(run) for pipeline, run in runs.items()}
    until = min(slices[-1][0] for slices in finished.values())
    rates = {}
    for pipeline, slices in finished.items():
        common = [(at, size) for at, size in slices if at <= until]
        seconds = (common[-1][0] - common[0][0]).total_seconds()
        rates[pipeline] = sum(size for _, size in common[1:]) / seconds
    return rates


def _finished(run: AutomationRun) -> list[tuple[datetime, int]]:
    """When each finished slice of ``run`` ended, in order, and the items in it."""
    from automation.models import WorkSlice

    slices = WorkSlice.objects.filter(stage_run__run=run, stage_run__position=0)
    rows = slices.order_by("finished_at").values_list("finished_at", "size")
    return [(at, size) for at, size in rows if at is not None]


def _wait_until_one_is_done(runs: list[AutomationRun]) -> None:
    from automation.models import AutomationRun

    ids = [run.pk for run in runs]
    while not AutomationRun.objects.filter(pk__in=ids, finished_at__isnull=False).exists():
        time.sleep(0.02)


def _processor_seconds(parent: psutil.Process) -> float:
    """Of the worker and all its children that live."""
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def _wait_for_room() -> None:
    """A worker's first sample comes a second after its start; before it there is no room to be seen."""
    from pause_manager import manager
    from pause_manager.needs import Needs

    while manager.should_pause(Needs()).should_pause:
        time.sleep(0.1)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
