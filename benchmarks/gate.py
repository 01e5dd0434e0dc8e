"""What the gate costs: durable no-op items with capacity watched (admission, claims, loads) and without, in turns."""

from __future__ import annotations

import os
import time

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 8
"""Single rounds differ by a tenth on a shared machine."""
ITEMS = 1_600_000


def main() -> list[Claim]:
    """Rounds on two worker processes, now one first and now the other; medians."""
    with system():
        rates: dict[bool, list[float]] = {True: [], False: []}
        _rate(is_watched=True)
        for number in range(ROUNDS):
            for is_watched in (number % 2 == 0, number % 2 == 1):
                rates[is_watched].append(_rate(is_watched=is_watched))
    note = f"{ITEMS:,} no-op items with one output each, 2 worker processes, capacity watched ÷ not watched"
    return [
        Claim(
            "throughput with the capacity gate",
            median(rates[True]),
            median(rates[False]),
            "items/s",
            0.95,
            0.97,
            note=note,
        )
    ]


def _rate(*, is_watched: bool) -> float:
    from django.conf import settings

    os.environ["WATCH_CAPACITY"] = str(int(is_watched))
    settings.PAUSE_MANAGER["capacity"] = is_watched
    run = create_run("bench-noop", start=False, items=ITEMS)
    with worker("backend", "-Q", "stages"):
        _wait_for_room()
        start(run)
        return ITEMS / wait_until_finished(run)


def _wait_for_room() -> None:
    """A worker's first sample comes a second after its start; before it there is no room to be seen."""
    from pause_manager import manager
    from pause_manager.needs import Needs

    while manager.should_pause(Needs()).should_pause:
        time.sleep(0.1)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
