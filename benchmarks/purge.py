"""Deleting a run of a million items, or ``PURGE_ITEMS``: how fast, what others wait for it, what it leaves behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Claim, median, percentile, system
from benchmarks.site import create_run, start

if TYPE_CHECKING:
    from automation.models import AutomationRun

ITEMS = int(os.environ.get("PURGE_ITEMS", "1_000_000"))
OTHERS = 20_000
CLAIMS = 300


def main() -> list[Claim]:
    """Claims of another run are timed before (the peer) and while the rows go (ours)."""
    with system():
        from automation.models.tables import ITEM
        from automation.retention import deletion, purge
        from automation.runs import lifecycle
        from pause_manager.actor import SYSTEM

        begun = time.perf_counter()
        old = create_run("bench-noop", start=False, items=ITEMS)
        created = ITEMS / (time.perf_counter() - begun)
        at_work = create_run("bench-noop", start=False, items=OTHERS)
        start(at_work)
        lifecycle.cancel(old.pk, actor=SYSTEM)
        quiet = _claims_ms(at_work, until=None)
        deletion.delete(old.pk, actor=SYSTEM)
        is_over = threading.Event()
        meanwhile: list[float] = []
        claiming = threading.Thread(target=_claim_on, args=(at_work, is_over, meanwhile))
        claiming.start()
        begun = time.perf_counter()
        gone = purge.purge()
        seconds = time.perf_counter() - begun
        is_over.set()
        claiming.join()
        dead = _dead_after_vacuum(ITEM)
        grown = _grown_by(ITEM, lambda: create_run("bench-noop", start=False, items=ITEMS))
    note = f"{gone.rows:,} rows of a run gone in {seconds:.1f} s, in batches of {purge.BATCH:,}"
    smaller: dict[str, Any] = {"is_larger_better": False, "note": note}
    return [
        Claim("rows deleted (ours), created (peer)", gone.rows / seconds, created, "rows/s", 0.2, 0.5, note=note),
        Claim("longest batch", gone.longest_seconds * 1_000, 1_000, "ms", 1, 0.25, **smaller),
        Claim("claim while rows go, median", median(meanwhile), median(quiet), "ms", 3, 1.5, **smaller),
        Claim("claim while rows go, p99", percentile(meanwhile, 0.99), percentile(quiet, 0.99), "ms", 10, 3, **smaller),
        Claim("dead rows after a vacuum (ours), rows deleted (peer)", dead, gone.rows, "rows", 0.01, 0, **smaller),
        Claim("table and indexes grown by as many new items", grown, 100, "%", 0.2, 0.01, **smaller),
    ]


def _claims_ms(run: AutomationRun, until: threading.Event | None) -> list[float]:
    from automation import leases
    from automation.leases.holders import Worker

    stage_run = run.stages.get(slug="noop").pk
    times: list[float] = []
    while (len(times) < CLAIMS) if until is None else not until.is_set():
        begun = time.perf_counter()
        work = leases.claim(stage_run, Worker("benchmark", "benchmark"))
        times.append((time.perf_counter() - begun) * 1_000)
        assert work is not None
        leases.release(work)
    return times


def _claim_on(run: AutomationRun, until: threading.Event, times: list[float]) -> None:
    from django.db import connection

    try:
        times += _claims_ms(run, until)
    finally:
        connection.close()


def _dead_after_vacuum(table: str) -> int:
    """What autovacuum leaves in the end. It is not waited for: twice the same work is done now.

    The first pass frees the rows and empties pages of the index, the second lets these be used again.
    """
    from django.db import connection

    dead = 0
    with connection.cursor() as cursor:
        for _ in range(2):
            cursor.execute(f"VACUUM {table}")
            cursor.execute("SELECT pg_current_xact_id(), pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
            cursor.execute("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = %s", [table])
            dead = int(cursor.fetchone()[0])
    return dead


def _grown_by(table: str, work: Callable[[], object]) -> float:
    """By how many percent ``work`` makes the table and its indexes larger."""
    from django.db import connection

    def size() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
            return int(cursor.fetchone()[0])

    before = size()
    work()
    return 100 * (size() - before) / before


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
