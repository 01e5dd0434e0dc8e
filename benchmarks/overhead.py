"""Items of 100 µs: what share of a bare Python loop one worker process keeps, outputs committed."""

from __future__ import annotations

import time

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 3
ITEMS = 60_000
MICROSECONDS = 100


def main() -> list[Claim]:
    """Interleaved rounds of the bare loop and a run on one worker process; medians."""
    with system():
        bare, ours = [], []
        for _ in range(ROUNDS):
            bare.append(_bare())
            run = create_run("bench-spin", start=False, items=ITEMS, microseconds=MICROSECONDS)
            with worker("backend", "-Q", "stages", processes=1):
                start(run)
                ours.append(ITEMS / wait_until_finished(run))
    note = f"{ITEMS:,} items of {MICROSECONDS} µs, one worker process, outputs committed"
    return [Claim("100 µs items, share of the bare loop", median(ours), median(bare), "items/s", 0.95, 0.98, note=note)]


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
