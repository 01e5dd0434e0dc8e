"""Items of 100 µs: what share of a bare Python loop one worker process keeps, outputs committed."""

from __future__ import annotations

import time

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 3
ITEMS = 60_000
WARM_UP = 2_000
"""Items of a first run that is not measured: a fresh worker imports and connects."""
MICROSECONDS = 100


def main() -> list[Claim]:
    """Interleaved rounds of the bare loop and a run on one worker process; medians."""
    with system():
        bare, ours = [], []
        with worker("backend", "-Q", "stages", processes=1):
            _ours(WARM_UP)
            for _ in range(ROUNDS):
                bare.append(_bare())
                ours.append(_ours(ITEMS))
    note = f"{ITEMS:,} items of {MICROSECONDS} µs, one worker process, outputs committed"
    return [Claim("100 µs items, share of the bare loop", median(ours), median(bare), "items/s", 0.95, 0.98, note=note)]


def _ours(items: int) -> float:
    run = create_run("bench-spin", start=False, items=items, microseconds=MICROSECONDS)
    start(run)
    return items / wait_until_finished(run)


def _bare() -> float:
    from benchmarks.pipelines import spin

    started = time.perf_counter()
    for n in range(ITEMS):
        spin(MICROSECONDS / 1e6)
        _ = ({"n": n},)
    return ITEMS / (time.perf_counter() - started)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
