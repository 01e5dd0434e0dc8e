"""What becomes of items that fail, wait, or kill their worker."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import DataError, connection

from automation import leases
from automation.errors import LeaseLost
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import ItemFailure, Lifecycle, WorkSlice
from automation.runs import lifecycle, reconciler
from pause_manager.holds.stops import Stop
from tests.support.factories import (
    OPERATOR,
    claim,
    drain,
    events,
    expire_leases,
    leased,
    make_run,
    midway_in_a_checkpoint,
    outputs,
    rows,
    run_loop,
    settle,
    tickets,
)
from tests.support.pipelines import Buffered, Flaky, scripted, wait_until
from tests.support.race import in_thread, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_failed_item_is_kept_with_its_error_and_the_others_go_on():
    run = drain(make_run("failing", items=7))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 4, 5, 7]
    assert [
        (failure.key, failure.payload, failure.error, failure.attempts) for failure in ItemFailure.objects.all()
    ] == [
        ("002", {"n": 3}, "ValueError: cannot digest 3", 3),
        ("005", {"n": 6}, "ValueError: cannot digest 6", 3),
    ]


def test_more_failures_than_allowed_fail_the_run_and_stop_it():
    run = drain(make_run("strict", items=30))

    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "strict: 3 items failed, at most 2 are allowed"
    assert len(events(run, "fail")) == 1
    assert not WorkSlice.objects.leased().exists()


def test_as_many_failures_as_allowed_do_not():
    assert drain(make_run("strict", items=8)).lifecycle == Lifecycle.COMPLETED


def test_an_item_that_comes_right_at_a_later_try_is_no_failure():
    run = drain(make_run("flaky", items=[{"n": 1, "fails": 3}, {"n": 2}]))

    assert [output["n"] for output in outputs(run)] == [1, 2]
    assert not ItemFailure.objects.exists()


@pytest.mark.req("W-54")
@pytest.mark.parametrize("is_irreversible", [False, True])
def test_a_pause_interrupts_the_wait_before_a_retry(is_irreversible, monkeypatch):
    monkeypatch.setattr(Flaky, "retry_backoff", 30.0)
    monkeypatch.setattr(Flaky, "irreversible", is_irreversible)
    run = make_run("flaky", items=[{"n": 1, "fails": 1}])
    loop = in_thread(lambda: run_loop(run))
    wait_until(lambda: any(key.startswith(str(run.pk)) for key in Flaky.tries))

    asked = time.monotonic()
    lifecycle.pause(run.pk, actor=OPERATOR)
    loop.join()

    assert time.monotonic() - asked < 10, "it would have waited for 30 s"
    assert outputs(run) == []
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def test_a_provider_that_asks_for_patience_gets_it_and_no_worker_waits():
    run = make_run("patient", items=[{"n": 1}, {"n": 2, "later": 0.5}, {"n": 3}])

    drain(run)

    assert run.lifecycle == Lifecycle.RUNNING
    assert tickets(run) == 0
    assert not WorkSlice.objects.leased().exists()
    assert claim(run) is None or run.stages.filter(lifecycle="running").exists()
    assert not ItemFailure.objects.exists()
    time.sleep(0.6)
    reconciler.reconcile()
    assert drain(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3]


def test_a_slice_that_waits_is_not_leased_before_its_time():
    run = make_run("scripted", items=5)
    work = leased(run)

    assert leases.postpone(work, 60, "not now")

    assert claim(run) is None
    WorkSlice.objects.update(available_at=run.created_at)
    assert claim(run) is not None


LOST = Stop("lease_lost", "The slice was taken over by another worker.")


def test_a_worker_that_lost_its_lease_changes_nothing():
    """Invariant 3, for each thing a worker may write."""
    run = make_run("scripted", items=5)
    stale = leased(run, "a")
    expire_leases(run)
    reconciler.reap()
    fresh = leased(run, "b")
    before = rows(run)

    with pytest.raises(LeaseLost):
        checkpoint.commit(stale, Progress(cursor="000", processed=1, outputs=[b"not even looked at"]))
    with pytest.raises(LeaseLost):
        leases.finish_hook(stale, 1.0)
    assert leases.release(stale) is None
    assert leases.release(stale, is_crash=True) is None
    assert not leases.postpone(stale, 60, "not now")
    with pytest.raises(LeaseLost):
        leases.split_off(stale, 1, seconds=60, why="not now")
    assert leases.heartbeat(stale) == LOST
    assert leases.committed_cursor(stale) is None

    assert rows(run) == before
    assert fresh.token > stale.token


def test_the_same_checkpoint_twice_is_refused_the_second_time():
    run = make_run("scripted", items=5)
    work = leased(run)
    checkpoint.commit(work, Progress(cursor="000", processed=1))
    work.cursor = ""

    with pytest.raises(LeaseLost):
        checkpoint.commit(work, Progress(cursor="000", processed=1))

    assert WorkSlice.objects.get().processed == 1


def test_a_checkpoint_whose_outputs_cannot_be_stored_moves_nothing():
    run = make_run("scripted", items=5)
    work = leased(run)

    with pytest.raises(DataError):
        checkpoint.commit(work, Progress(cursor="000", processed=1, outputs=[b"000.000\tnot json"]))

    assert (WorkSlice.objects.get().cursor, WorkSlice.objects.get().processed, work.cursor) == ("", 0, "")


def until(event: threading.Event) -> None:
    assert event.wait(10)


@pytest.mark.parametrize("loss", ["while it writes", "while it waits to write"])
def test_a_checkpoint_outlives_the_loss_of_its_connection(loss, monkeypatch):
    monkeypatch.setattr(Buffered, "checkpoint_interval", 0)  # on the loop's own connection
    run = make_run("buffered", items=5)
    proceed = threading.Event()

    with scripted(lambda payload, ctx: until(proceed)):
        loop = in_thread(lambda: run_loop(run))
        wait_until(lambda: WorkSlice.objects.leased().exists())
        with midway_in_a_checkpoint(run), connection.cursor() as cursor:
            if loss == "while it waits to write":
                cursor.execute("LOCK TABLE automation_workslice IN SHARE MODE")
            proceed.set()
            wait_until_blocked(loop)
            cursor.execute("SELECT pg_terminate_backend(%s)", [loop.backend])
        loop.join()

    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]
    assert not events(run, "worker_lost")


def checkpointing_backends() -> list[int]:
    """The connections whose last or present statement is a checkpoint, but for the caller's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND query LIKE '%given_up AS%'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def end(backends: list[int]) -> None:
    assert backends
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", [backends])


@pytest.mark.parametrize("loss", ["before it is committed", "after it is committed"])
def test_a_checkpoint_behind_the_loop_outlives_the_loss_of_its_connection(loss, monkeypatch):
    monkeypatch.setattr(Buffered, "checkpoint_interval", 0.001)
    run = make_run("buffered", items=5)
    proceed = threading.Event()

    def script(payload, ctx):
        time.sleep(0.01)
        if payload["n"] == 2:
            until(proceed)

    with scripted(script):
        loop = in_thread(lambda: run_loop(run))
        if loss == "before it is committed":
            with midway_in_a_checkpoint(run):
                wait_until(checkpointing_backends)
                end(checkpointing_backends())
        else:
            wait_until(lambda: WorkSlice.objects.filter(cursor="000").exists())
            end(checkpointing_backends())
        proceed.set()
        loop.join()

    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]
    assert not events(run, "worker_lost")
    assert WorkSlice.objects.get(processed=5).failed == 0


def test_a_loop_whose_lease_was_lost_while_it_committed_behind_writes_nothing_more(monkeypatch, settings):
    settings.AUTOMATION = {**settings.AUTOMATION, "silent_leases": 1.0}  # else it is known to live, and has patience
    monkeypatch.setattr(Buffered, "checkpoint_interval", 0.001)
    run = make_run("buffered", items=5)
    taken = threading.Event()

    def script(payload, ctx):
        time.sleep(0.01)
        if payload["n"] == 2:
            until(taken)

    def reaped() -> bool:
        """Again where a checkpoint that was under way has renewed the lease after it was ended."""
        expire_leases(run)
        reconciler.reap()
        return not WorkSlice.objects.filter(lease_token__isnull=False).exists()

    with scripted(script):
        loop = in_thread(lambda: run_loop(run))
        wait_until(lambda: WorkSlice.objects.filter(cursor="000").exists())
        wait_until(reaped)
        taken.set()
        loop.join()
    committed = [output["n"] for output in outputs(run)]

    assert committed == [1]
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]
