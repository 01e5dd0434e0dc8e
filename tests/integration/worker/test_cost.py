"""What a loop costs: its statements grow with its checkpoints, never with its items, and so does its memory."""

from __future__ import annotations

import tracemalloc
from itertools import islice

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from automation.items import store
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import Lifecycle
from pause_manager.nodes.machines import identity
from tests.support.factories import claim, leased, make_run, run_loop, stage_of
from tests.support.pipelines import Buffered, Echo

pytestmark = pytest.mark.django_db(transaction=True)


def rows_looked_at() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'automation_workitem'"
        )
        looked_at: int = cursor.fetchone()[0]
    return looked_at


def test_a_chunk_looks_at_its_own_rows_whatever_the_statistics_say():
    """Fresh rows are unknown to the planner, which then sorts all that is left of a stage for every chunk."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE automation_workitem")
    store.write(store.row(b"1", f"{n:06d}", b'{"n":1}') for n in range(40_000))
    before = rows_looked_at()

    chunk = [key for key, _ in islice(store.read(1), store.FIRST_CHUNK)]

    assert len(chunk) == store.FIRST_CHUNK
    assert rows_looked_at() - before == store.FIRST_CHUNK


def statements_of_a_loop(items: int) -> int:
    run = make_run("buffered", items=items)
    connection.close()  # each loop on a fresh connection: one that has claimed often prepares its statements
    with CaptureQueriesContext(connection) as captured:
        run_loop(run)
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.COMPLETED
    return len(captured)


def test_a_loop_says_no_more_to_the_database_for_more_items(monkeypatch):
    monkeypatch.setattr(Buffered, "slice_size", 10_000)
    identity.name()  # asked once a process

    assert statements_of_a_loop(items=5) == statements_of_a_loop(items=1_500)


def test_a_checkpoint_costs_the_same_however_much_it_commits(monkeypatch):
    """One statement, which is one transaction and one round trip."""
    monkeypatch.setattr(Buffered, "slice_size", 1_000)
    run = make_run("buffered", items=1_000)
    work = leased(run)
    rows = [row for n in range(900) for row in store.output_rows(f"{n:03d}", [{"n": 1}])]

    with CaptureQueriesContext(connection) as captured:
        checkpoint.commit(work, Progress(cursor="899", processed=900, outputs=rows))

    assert len(captured) == 1
    assert stage_of(run).outputs.count() == 900


def test_a_claim_says_the_same_to_ten_slices_as_to_a_thousand():
    counts = []
    for items in (10, 1_000):
        run = make_run("few", items=items)
        with CaptureQueriesContext(connection) as captured:
            assert claim(run) is not None
        counts.append(len(captured))

    assert counts[0] == counts[1]


def peak_of_a_loop(items: int) -> int:
    run = make_run("numbers", items=items)
    tracemalloc.start()
    run_loop(run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.COMPLETED
    return peak


@pytest.mark.slow
def test_a_loop_needs_no_more_memory_for_more_items(monkeypatch):
    """Items are read in chunks and outputs leave with each checkpoint."""
    monkeypatch.setattr(Echo, "slice_size", 100_000)
    monkeypatch.setattr(Echo, "checkpoint_interval", 0.01)
    peak_of_a_loop(items=100)  # imports and caches

    few, many = peak_of_a_loop(items=12_000), peak_of_a_loop(items=60_000)

    assert many < 1.3 * few + 300_000
