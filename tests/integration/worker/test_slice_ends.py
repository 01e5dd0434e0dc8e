"""The end of a slice: the next one is leased while the last checkpoint is under way, and not begun before it stands."""

from __future__ import annotations

import time

import pytest

from automation import leases
from automation.models import ItemFailure, Lifecycle, WorkSlice
from automation.worker.item_loop import ItemLoop
from pause_manager.slots import keeper
from pause_manager.slots.keeper import Judge, Verdict
from tests.support.factories import (
    drain,
    events,
    expire_leases,
    make_run,
    midway_in_a_checkpoint,
    outputs,
    run_loop,
    settle,
)
from tests.support.pipelines import Buffered, scripted, wait_until
from tests.support.race import in_thread
from tests.support.refusing_database import database_that_refuses

pytestmark = pytest.mark.django_db(transaction=True)


def leased_slices() -> list[int]:
    return list(WorkSlice.objects.leased().order_by("ordinal").values_list("ordinal", flat=True))


def test_the_next_slice_is_leased_meanwhile_and_not_begun():
    run = make_run("buffered", items=10)
    seen: list[int] = []

    with scripted(lambda item, ctx: seen.append(item["n"])):
        with midway_in_a_checkpoint(run):
            loop = in_thread(lambda: run_loop(run))
            wait_until(lambda: leased_slices() == [0, 1])
            begun = list(seen)
        loop.join()

    assert begun == [1, 2, 3, 4, 5]
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert seen == [output["n"] for output in outputs(run)] == list(range(1, 11))


def test_where_loops_are_counted_no_slice_is_leased_before_the_one_before_it_has_ended(monkeypatch):
    monkeypatch.setattr(Buffered, "concurrency", 1)
    run = make_run("buffered", items=10)

    with midway_in_a_checkpoint(run):
        loop = in_thread(lambda: run_loop(run))
        wait_until(lambda: WorkSlice.objects.leased().exists())
        with pytest.raises(TimeoutError):
            wait_until(lambda: len(leased_slices()) > 1, seconds=1)
    loop.join()

    assert settle(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.parametrize("culprit", [2, 5])
def test_a_last_checkpoint_that_is_refused_costs_its_culprit_alone(culprit):
    run = make_run("buffered", items=10)

    with database_that_refuses(culprit):
        drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [n for n in range(1, 11) if n != culprit]
    assert [failure.payload["n"] for failure in ItemFailure.objects.all()] == [culprit]
    assert not events(run, "worker_lost", "loop_failed")
    assert list(WorkSlice.objects.filter(phase=WorkSlice.Phase.WORK).values_list("crashes", "expiries")) == [(0, 0)] * 2


def test_a_lease_that_was_lost_by_then_gives_the_next_slice_back(settings, monkeypatch):
    # Nobody tells the loop before its checkpoint does.
    monkeypatch.setattr(keeper, "_judge", Judge(lambda loops: Verdict({}, is_whole=True), lambda: 60.0))
    settings.AUTOMATION = {**settings.AUTOMATION, "silent_leases": 1.0}
    run = make_run("buffered", items=10)

    def script(item, ctx):
        if item["n"] == 1:
            time.sleep(1.0)  # the loop's first beat would tell it of the loss before its slice ends
        if item["n"] == 5:
            expire_leases(run)
            assert len(leases.reap()) == 1  # nobody is told
            WorkSlice.objects.filter(ordinal=0).update(available_at="2200-01-01T00:00Z")

    with scripted(script):
        run_loop(run)
    WorkSlice.objects.filter(ordinal=0).update(available_at=None)

    assert WorkSlice.objects.get(ordinal=1).is_begun, "it was leased"
    assert not leased_slices()
    assert not outputs(run)
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == list(range(1, 11))


def test_whatever_fails_at_the_end_of_a_slice_leaves_no_lease_behind(monkeypatch):
    """The first items of the next slice cannot be read: the loop ends, and another does all."""
    run = make_run("buffered", items=10)
    with monkeypatch.context() as broken:
        broken.setattr(ItemLoop, "read_ahead", _raise)
        run_loop(run)

    assert not leased_slices()
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 5]
    assert settle(run).lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == list(range(1, 11))


def _raise(*_: object) -> None:
    raise OSError("cannot read")


def test_what_is_done_again_at_the_end_of_a_slice_keeps_no_other_waiting():
    """It may take longer than a lease, and nobody renews that of the slice which was leased meanwhile."""
    run = make_run("buffered", items=10)
    seen: list[tuple[int, list[int]]] = []

    with database_that_refuses(5), scripted(lambda item, ctx: seen.append((item["n"], leased_slices()))):
        drain(run)

    assert [n for n, _ in seen[:10]] == [1, 2, 3, 4, 5] * 2
    assert all(leased == [0] for _, leased in seen[:10])
    assert [output["n"] for output in outputs(run)] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
