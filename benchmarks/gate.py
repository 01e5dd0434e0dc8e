"""What the gate costs: durable no-op items with capacity watched (admission, claims, loads) and without, in turns."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 6
"""Single rounds differ by a tenth on a shared machine."""
ITEMS = 1_600_000


@dataclass(frozen=True)
class Round:
    """What one run took: items a second, and the processor seconds of the whole machine."""

    rate: float
    processor_seconds: float


def main() -> list[Claim]:
    """Rounds on two worker processes, now one first and now the other; medians."""
    with system():
        rounds: dict[bool, list[Round]] = {True: [], False: []}
        _round(is_watched=True)
        for number in range(ROUNDS):
            for is_watched in (number % 2 == 0, number % 2 == 1):
                rounds[is_watched].append(_round(is_watched=is_watched))
    note = f"{ITEMS:,} no-op items with one output each, 2 worker processes, capacity watched ÷ not watched"
    return [
        Claim(
            "throughput with the capacity gate",
            median([one.rate for one in rounds[True]]),
            median([one.rate for one in rounds[False]]),
            "items/s",
            0.95,
            0.97,
            note=note,
        ),
        Claim(
            "processor time with the capacity gate",
            median([one.processor_seconds for one in rounds[True]]),
            median([one.processor_seconds for one in rounds[False]]),
            "s",
            1.05,
            1.03,
            is_larger_better=False,
            note=f"{note}; of the whole machine, servers and sampling with it, however slow its disk is",
        ),
    ]


def _round(*, is_watched: bool) -> Round:
    from django.conf import settings

    os.environ["WATCH_CAPACITY"] = str(int(is_watched))
    settings.PAUSE_MANAGER["capacity"] = is_watched
    run = create_run("bench-noop", start=False, items=ITEMS)
    with worker("backend", "-Q", "stages"):
        _wait_for_room()
        before = _processor_seconds()
        start(run)
        seconds = wait_until_finished(run)
        return Round(ITEMS / seconds, _processor_seconds() - before)


def _processor_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _wait_for_room() -> None:
    """A worker's first sample comes a second after its start; before it there is no room to be seen."""
    from pause_manager import manager
    from pause_manager.needs import Needs

    while manager.should_pause(Needs()).should_pause:
        time.sleep(0.1)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
