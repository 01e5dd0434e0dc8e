"""Items that hang, in real workers: they are ended from outside, their place comes back, their neighbours are done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automation import dispatch
from automation.leases import loop_heartbeat
from automation.models import AutomationRun, ItemFailure, Lifecycle, WorkSlice
from automation.reports import status
from automation.runs import lifecycle, reconciler
from automation.worker import item_timeouts
from pause_manager.slots.overruns import Overrun
from pause_manager.slots.slot_table import CurrentWork, SlotNote
from tests.support.factories import OPERATOR, events, leased, make_run, outputs
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

SETTINGS = "tests.support.settings.hasty"
ENDED_SECONDS = 2.5 + 0.5
"""Time limit and grace."""


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, settings: Any) -> Iterator[Workers]:
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": SETTINGS})
    try:
        yield running
    finally:
        running.close()


def hanging(how: str, at: int = 3, items: int = 6, **options: Any) -> AutomationRun:
    given = [{"n": n} | ({"how": how} if n == at else {}) for n in range(1, items + 1)]
    run = make_run(options.pop("pipeline", "hanging"), items=given, **options)
    dispatch.of_runs([run.pk])
    return run


def ends(run: AutomationRun, workers: Workers, seconds: float = 40) -> str:
    """How it ends: what beat and the control worker do is done here."""

    def has_ended() -> bool:
        reconciler.reap()
        reconciler.reconcile()
        run.refresh_from_db()
        return run.finished_at is not None

    assert eventually(has_ended, seconds, every=0.3), workers.said("one")[-3000:]
    return run.lifecycle


def is_at_work(run: AutomationRun) -> bool:
    return WorkSlice.objects.leased().filter(stage_run__run=run).exists()


@pytest.mark.slow
def test_an_item_that_hangs_fails_and_its_neighbours_are_done_once(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "2")
    runs = {how: hanging(how) for how in ("loop", "grip", "sleep", "politely")}

    for how, run in runs.items():
        assert ends(run, workers) == Lifecycle.COMPLETED, how
        assert [output["n"] for output in outputs(run)] == [1, 2, 4, 5, 6], how
        (failure,) = ItemFailure.objects.filter(stage_run__run=run)
        assert (failure.payload["n"], failure.attempts) == (3, 1), how
        assert failure.error == "TookTooLong: took longer than item_timeout = 2.5 s", how
        told = events(run, "overrun")
        assert len(told) == (how != "politely"), "who is asked and ends need not be killed"
        assert not events(run, "worker_lost"), how
    workers.stop("one")


@pytest.mark.slow
def test_an_item_that_hangs_is_tried_as_often_as_its_stage_says(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "1")

    run = hanging("loop", pipeline="hanging-twice")

    assert ends(run, workers) == Lifecycle.COMPLETED
    (failure,) = ItemFailure.objects.filter(stage_run__run=run)
    assert (failure.payload["n"], failure.attempts) == (3, 2)
    assert [event.details["attempt"] for event in events(run, "overrun")] == [1, 2]


@pytest.mark.slow
def test_pause_cancel_and_a_time_out_of_the_run_wait_no_longer_than_the_item_may_take(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "3")
    paused, cancelled = hanging("grip", at=1), hanging("sleep", at=1)
    began = time.monotonic()
    assert eventually(lambda: all(map(is_at_work, (paused, cancelled)))), workers.said("one")[-3000:]

    lifecycle.pause(paused.pk, actor=OPERATOR)
    lifecycle.cancel(cancelled.pk, actor=OPERATOR)

    def state(run: AutomationRun) -> str:
        return status.of(AutomationRun.objects.with_leases().get(pk=run.pk))

    assert (state(paused), state(cancelled)) == (status.PAUSING, status.CANCELLING)
    assert eventually(lambda: (state(paused), state(cancelled)) == ("paused", "cancelled"), 15)
    assert time.monotonic() - began < ENDED_SECONDS + 8

    timed = hanging("sleep", at=1, pipeline="hanging-long", timeout_seconds=0.2)
    assert eventually(lambda: is_at_work(timed)), workers.said("one")[-3000:]
    time.sleep(0.3)
    reconciler.reconcile()
    assert state(timed) == "failed"
    assert eventually(lambda: not is_at_work(timed), 15), "its item may take an hour"
    fresh = make_run("few", items=3)
    dispatch.of_runs([fresh.pk])
    assert ends(fresh, workers) == Lifecycle.COMPLETED, "the places are free again"


@pytest.mark.slow
def test_a_hook_that_hangs_fails_the_run(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "1")

    run = make_run("hanging-hook", items=3)
    dispatch.of_runs([run.pk])

    assert ends(run, workers) == Lifecycle.FAILED
    assert run.failure == "Hanging hook: prepare failed: TookTooLong: took longer than hook_timeout = 1 s"


@pytest.mark.slow
def test_a_set_up_that_hangs_is_tried_as_often_as_its_stage_says_then_the_run_fails(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "2")
    failed = {
        "hanging-setup": "Hanging setup: it could not be made or set up",
        "hanging-init": "Hanging init: prepare failed",
    }
    runs = {pipeline: make_run(pipeline, items=3) for pipeline in failed}
    dispatch.of_runs([run.pk for run in runs.values()])

    for pipeline, run in runs.items():
        assert ends(run, workers) == Lifecycle.FAILED
        assert run.failure == f"{failed[pipeline]}: TookTooLong: took longer than hook_timeout = 1 s"
        assert {event.details["attempt"] for event in events(run, "overrun")} == {1, 2}


def overrun_on(run: AutomationRun, number: int, attempt: int) -> None:
    """A loop leases the next slice and hangs at the item of that number; -1 is its set-up."""
    work = leased(run)
    noted = SlotNote(0, 1, 1, "owner", frozenset(), loop_heartbeat.on(work))
    at = CurrentWork(time.monotonic() - 60, 2.5, number, attempt)
    assert item_timeouts.take_away(Overrun(noted, at, has_ended=False, is_killed=True))


def test_a_set_up_that_hangs_does_not_take_the_count_of_an_item_that_has_hung():
    run = make_run("hanging", items=3)
    overrun_on(run, 0, attempt=1)

    overrun_on(run, -1, attempt=1)

    row = WorkSlice.objects.get(ordinal=0)
    assert (row.overrun_key, row.overrun_attempts) == ("000", 1)
    (stage,) = run.stages.filter(position=0)
    assert (stage.loop_failures, stage.loop_error) == (1, "TookTooLong: took longer than hook_timeout = 2.5 s")
    assert [event.details["item"] for event in events(run, "overrun")] == ["000", ""]


@pytest.mark.slow
def test_where_nobody_can_be_killed_the_item_fails_all_the_same_and_it_is_said(workers: Workers):
    workers.start("one", "-Q", "stages", "-P", "threads", "-c", "2")

    run = hanging("sleep")

    assert ends(run, workers) == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run)] == [1, 2, 4, 5, 6]
    (told,) = events(run, "overrun")
    assert "nobody can end it" in told.reason
