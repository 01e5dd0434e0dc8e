"""What lanes and resources cost: no-op items that use two limited resources, in a lane of one run, and with neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

if TYPE_CHECKING:
    from pause_manager.actor import Actor

ROUNDS = 8
ITEMS = 800_000
PLACES = 8
"""Of each resource: enough for all loops, so that what is measured is the count."""


class Rates(NamedTuple):
    """Items per second, of the clock and of processor time."""

    by_clock: float
    by_processor: float


def main() -> list[Claim]:
    """Interleaved rounds on two worker processes; the median of both and of the ratios of neighbours."""
    with system():
        from pause_manager.actor import Actor

        _limit(Actor("system", "benchmark"))
        ours, peer = [], []
        with worker("backend", "-Q", "stages"):
            for uses in (False, True):
                _rates(uses, ITEMS // 10)
            for number in range(ROUNDS):
                if number % 2:
                    ours.append(_rates(True, ITEMS))
                peer.append(_rates(False, ITEMS))
                if not number % 2:
                    ours.append(_rates(True, ITEMS))
    note = (
        f"{ITEMS:,} no-op items with one output each in slices of 10,000, 2 worker processes, {ROUNDS} runs whose "
        f"stage uses two resources with {PLACES} places each, in a lane of width 1 ÷ as many with neither, in turns"
    )
    by_processor = f"{note}; items per second of processor time, of workers and servers"
    name = "throughput with limited resources and a lane of one run"
    return [
        _claim(name, [rates.by_clock for rates in ours], [rates.by_clock for rates in peer], note),
        _claim(
            f"{name}, by processor time",
            [rates.by_processor for rates in ours],
            [rates.by_processor for rates in peer],
            by_processor,
        ),
    ]


def _claim(name: str, ours: list[float], peer: list[float], note: str) -> Claim:
    ratio = median([one / other for one, other in zip(ours, peer, strict=True)])
    return Claim(name, ratio * median(peer), median(peer), "items/s", 0.95, 0.98, note=note)


def _limit(actor: Actor) -> None:
    from automation.models import Account, Lane, Site
    from benchmarks.pipelines import NoopUsing
    from pause_manager import resources

    account, _ = Account.objects.get_or_create(name="bench")
    Site.objects.create(account=account, slug="bench-lane", name="bench-lane")
    Lane.objects.create(name="bench-lane", width=1)
    for name in NoopUsing.uses:
        resources.set_limits(name, {"max_at_once": PLACES}, actor=actor)


def _rates(uses: bool, items: int) -> Rates:
    run = create_run("bench-uses", site="bench-lane" if uses else "bench", start=False, items=items, uses=int(uses))
    used = _processor_seconds()
    start(run)
    seconds = wait_until_finished(run)
    return Rates(items / seconds, items / (_processor_seconds() - used))


def _processor_seconds() -> float:
    """What the workers and servers that this process has started have used, with those of theirs that have ended."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
