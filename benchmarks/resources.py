"""What lanes and resources cost: no-op items that use two limited resources, in a lane of one run, and with neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

if TYPE_CHECKING:
    from pause_manager.actor import Actor

ROUNDS = 8
ITEMS = 400_000
PLACES = 8
"""Of each resource: enough for all loops, so that what is measured is the count."""


def main() -> list[Claim]:
    """Interleaved rounds on two worker processes; the median of both and of the ratios of neighbours."""
    with system():
        from pause_manager.actor import Actor

        _limit(Actor("system", "benchmark"))
        ours, peer = [], []
        with worker("backend", "-Q", "stages"):
            for uses in (False, True):
                _rate(uses, ITEMS // 10)
            for number in range(ROUNDS):
                if number % 2:
                    ours.append(_rate(True, ITEMS))
                peer.append(_rate(False, ITEMS))
                if not number % 2:
                    ours.append(_rate(True, ITEMS))
    ratio = median([one / other for one, other in zip(ours, peer, strict=True)])
    return [
        Claim(
            "throughput with limited resources and a lane of one run",
            ratio * median(peer),
            median(peer),
            "items/s",
            0.95,
            0.98,
            note=f"{ITEMS:,} no-op items with one output each in slices of 10,000, 2 worker processes, {ROUNDS} runs "
            f"whose stage uses two resources with {PLACES} places each, in a lane of width 1 ÷ as many with neither, "
            "in turns",
        )
    ]


def _limit(actor: Actor) -> None:
    from automation.models import Account, Lane, Site
    from benchmarks.pipelines import NoopUsing
    from pause_manager import resources

    account, _ = Account.objects.get_or_create(name="bench")
    Site.objects.create(account=account, slug="bench-lane", name="bench-lane")
    Lane.objects.create(name="bench-lane", width=1)
    for name in NoopUsing.uses:
        resources.set_limits(name, {"max_at_once": PLACES}, actor=actor)


def _rate(uses: bool, items: int) -> float:
    run = create_run("bench-uses", site="bench-lane" if uses else "bench", start=False, items=items, uses=int(uses))
    start(run)
    return items / wait_until_finished(run)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
