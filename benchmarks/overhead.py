"""Items of 100 µs: what share of a bare Python loop one worker process keeps, outputs committed.

By the clock, and by the processor time of the thread that works: others on the machine change that less.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 3
ITEMS = 60_000
WARM_UP = 2_000
"""Items of a first run that is not measured: a fresh worker imports and connects."""
MICROSECONDS = 100


def main() -> list[Claim]:
    """Interleaved rounds of the bare loop and a run on one worker process; medians."""
    from benchmarks.pipelines import spin, spin_by_processor

    with system():
        bare, ours, bare_seconds, our_seconds = [], [], [], []
        with worker("backend", "-Q", "stages", processes=1) as parent:
            _run("bench-spin", WARM_UP)
            (process,) = parent.children()
            for _ in range(ROUNDS):
                started = time.perf_counter()
                _loop(spin)
                bare.append(ITEMS / (time.perf_counter() - started))
                ours.append(ITEMS / _run("bench-spin", ITEMS))
                started = time.thread_time()
                _loop(spin_by_processor)
                bare_seconds.append(time.thread_time() - started)
                before = _main_thread_seconds(process)
                _run("bench-spin-by-processor", ITEMS)
                our_seconds.append(_main_thread_seconds(process) - before)
    note = f"{ITEMS:,} items of {MICROSECONDS} µs, one worker process, outputs committed"
    by_processor = f"{note}; items per second of its main thread's processor time"
    return [
        Claim("100 µs items, share of the bare loop", median(ours), median(bare), "items/s", 0.95, 0.975, note=note),
        Claim(
            "100 µs items, share of the bare loop by processor time",
            ITEMS / median(our_seconds),
            ITEMS / median(bare_seconds),
            "items/s",
            0.95,
            0.975,
            note=by_processor,
        ),
    ]


def _run(pipeline: str, items: int) -> float:
    """Seconds from start to end."""
    run = create_run(pipeline, start=False, items=items, microseconds=MICROSECONDS)
    start(run)
    return wait_until_finished(run)


def _loop(spin: Callable[[float], None]) -> None:
    for n in range(ITEMS):
        spin(MICROSECONDS / 1e6)
        _ = ({"n": n},)


def _main_thread_seconds(process: psutil.Process) -> float:
    (main,) = (thread for thread in process.threads() if thread.id == process.pid)
    return float(main.user_time + main.system_time)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
