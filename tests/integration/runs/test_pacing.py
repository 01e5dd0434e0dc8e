"""The pacing of a run: batches, the delays between them and between stages, and the limits of its stages."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db.models import F

from automation import dispatch, leases
from automation.errors import InvalidPacing
from automation.leases import releases
from automation.models import AutomationRun, Lifecycle
from automation.pipeline import definition, get_pipeline, pacing
from automation.reports import explanation, progress, status, waiting
from automation.reports.working_time import durations_of
from automation.runs import lifecycle, reconciler, retries
from pause_manager.models.clock import database_now
from tests.support.factories import (
    OPERATOR,
    claim,
    drain,
    events,
    expire_leases,
    leased,
    make_run,
    outputs,
    settle,
    stage_of,
    tickets,
)
from tests.support.lane_runs import again
from tests.support.paced_runs import paced_run, pass_time
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def told(run: AutomationRun) -> list[tuple[str, str]]:
    return [(one.code, one.sentence) for one in explanation.of_run(again(run)).reasons if one.code != "no_worker"]


def test_a_batch_is_done_at_once_and_the_next_waits_without_a_worker_and_says_until_when():
    run = paced_run()

    drain(run)

    assert len(outputs(run)) == 2
    assert (tickets(run), claim(run)) == (0, None)
    [(code, sentence)] = told(run)
    expected = r"The next batch of stage echo starts at [-\d]+ [:\d]+ UTC: this run waits 30 s between batches\."
    assert code == "delay"
    assert re.fullmatch(expected, sentence), sentence
    explained = explanation.of_run(again(run))
    assert explained.expected_start is not None
    assert 25 < (explained.expected_start - database_now()).total_seconds() <= 30
    assert (explained.may_start, status.of(run), waiting.by_reason()) == (False, "waiting", {"delay": 1})


def test_the_next_batch_begins_when_its_time_has_come_with_one_message_however_many_look():
    run = paced_run()
    drain(run)
    assert dispatch.dispatch() == 0, "nothing is scheduled before"

    pass_time(run, 30)

    assert (told(run), status.of(run)) == ([], "running")
    assert [dispatch.dispatch(), dispatch.dispatch()] == [1, 0]
    drain(run)
    assert len(outputs(run)) == 4
    assert tickets(run) == 0
    pass_time(run, 31)
    dispatch.dispatch()
    assert drain(run).lifecycle == Lifecycle.COMPLETED, "nothing waits after the last batch"
    assert len(outputs(run)) == 6


def test_two_workers_never_have_two_batches():
    run = paced_run()
    work = leased(run, "a")

    assert claim(run, "b") is None

    leases.release(work)
    assert leased(run, "b").slice_id == work.slice_id, "a batch that was begun continues at once"


def test_of_workers_that_come_at_once_one_gets_the_batch():
    for _ in range(5):
        run = paced_run()
        found = race(*(partial(claim, run, name) for name in "abc"))
        assert sum(work is not None for work in found) == 1


def test_a_batch_whose_worker_died_continues_without_a_delay_and_nothing_is_lost_or_done_twice():
    run = paced_run()
    work = leased(run)
    expire_leases(run)

    assert reconciler.reap() == 1

    again_leased = claim(run, "b")
    assert again_leased is not None
    assert again_leased.slice_id == work.slice_id
    leases.release(again_leased)
    for _ in range(3):
        dispatch.dispatch()
        drain(run)
        pass_time(run, 31)
    assert again(run).lifecycle == Lifecycle.COMPLETED
    assert [one["n"] for one in outputs(run)] == [1, 2, 3, 4, 5, 6]


def test_a_pause_does_not_stop_the_clock_of_a_delay():
    run = paced_run()
    drain(run)

    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    assert [code for code, _ in told(run)] == ["operator", "delay"]
    assert explanation.of_run(again(run)).expected_start is None, "nobody knows when it is resumed"
    pass_time(run, 31)
    assert (dispatch.dispatch(), claim(run)) == (0, None)
    lifecycle.resume(run.pk, actor=OPERATOR)

    assert told(run) == []
    drain(run)
    assert len(outputs(run)) == 4


def test_a_pause_in_a_delay_that_is_over_sooner_leaves_the_delay():
    run = paced_run()
    drain(run)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")

    lifecycle.resume(run.pk, actor=OPERATOR)

    assert [code for code, _ in told(run)] == ["delay"]
    assert (tickets(run), claim(run)) == (0, None)


def test_a_run_in_a_delay_is_cancelled_at_once():
    run = paced_run()
    drain(run)

    lifecycle.cancel(run.pk, actor=OPERATOR)

    assert again(run).lifecycle == Lifecycle.CANCELLED
    pass_time(run, 60)
    assert dispatch.dispatch() == 0
    assert len(outputs(run)) == 2


def test_an_item_that_waits_keeps_no_later_batch_and_comes_back_by_itself():
    run = paced_run("scripted")
    work = leased(run)
    releases.split_off(work, 1, seconds=600, why="busy")
    leases.release(work)
    drain(run)
    assert len(outputs(run)) == 1

    assert [code for code, _ in told(run)] == ["delay", "waits"]
    pass_time(run, 31)
    dispatch.dispatch()
    drain(run)
    assert len(outputs(run)) == 3, "the next batch"
    for _ in range(4):
        pass_time(run, 300)
        dispatch.dispatch()
        drain(run)
    assert again(run).lifecycle == Lifecycle.COMPLETED
    assert len(outputs(run)) == 6


def test_a_stage_waits_for_the_delay_between_stages():
    run = paced_run("chain", items=4, stage_delay_seconds=90)
    drain(run)

    assert [row.lifecycle for row in run.stages.filter(position__gte=0)] == ["completed", "running", "pending"]
    [(code, sentence)] = told(run)
    assert code == "delay"
    expected = r"Stage sum starts at [-\d]+ [:\d]+ UTC: this run waits 1 min 30 s between stages\."
    assert re.fullmatch(expected, sentence), sentence
    assert (claim(run), dispatch.dispatch()) == (None, 0)

    pass_time(run, 90)
    dispatch.dispatch()
    drain(run)
    assert [code for code, _ in told(run)] == ["delay"], "before the last stage"
    pass_time(run, 90)
    dispatch.dispatch()
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def test_time_between_batches_and_stages_is_no_working_time():
    run = paced_run("chain", items=4, batch_size=2, batch_delay_seconds=100, stage_delay_seconds=100)
    while drain(run).finished_at is None:
        stood = durations_of([run])[run.pk]
        assert stood.active < 5, "while it waits as well"
        pass_time(run, 100)
        dispatch.dispatch()

    assert again(run).lifecycle == Lifecycle.COMPLETED
    taken = durations_of([again(run)])[run.pk]
    assert (taken.total > 400, taken.active < 5) == (True, True), taken
    assert run.standstills.filter(code="delay").count() >= 1


def test_a_run_is_not_overdue_because_of_its_delays():
    run = make_run(items=6, timeout_seconds=60, pace={"batch_size": 2, "batch_delay_seconds": 1_000})
    drain(run)
    pass_time(run, 500)

    reconciler.reconcile()

    assert again(run).lifecycle == Lifecycle.RUNNING
    AutomationRun.objects.filter(pk=run.pk).update(started_at=F("started_at") - timedelta(seconds=61))
    reconciler.reconcile()
    assert again(run).lifecycle == Lifecycle.FAILED, "but when it has worked for so long"


@pytest.mark.req("A-27")
def test_a_limit_ends_a_stage_cleanly_and_explain_log_and_totals_say_so():
    run = make_run("chain", items=20, pace={"stages": {"few": {"max_items": 3}}})
    run = settle(run)

    few = stage_of(run, "few")
    made = len(outputs(run, "sum"))
    assert run.lifecycle == Lifecycle.COMPLETED
    assert made > 3
    assert (few.total_items, few.left_out, len(outputs(run, "few"))) == (3, made - 3, 3)
    sentence = f"Stage few does 3 of {made} items, its limit in this run; {made - 3} are left out."
    assert [one.reason for one in events(run, "stage_started")][-1] == sentence
    [completed] = events(run, "complete")
    assert completed.reason == f"All stages are done. {sentence}"
    assert told(run) == [("finished", "It is completed."), ("item_limit", sentence)]
    shown = {stage["slug"]: stage for stage in progress.snapshot(run)["stages"]}["few"]
    assert (shown["total_items"], shown["remaining_count"], shown["left_out_items"]) == (3, 0, made - 3)


def test_a_limit_of_all_stages_limits_each_and_hooks_see_no_more():
    run = settle(make_run("hooked", items=10, pace={"max_items": 4}))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [one["of"] for one in outputs(run)] == [1 + 2 + 3 + 4] * 4
    assert run.total_items == 10


def test_a_retry_keeps_the_pacing():
    run = make_run("chain", items=4, pace={"stages": {"sum": {"max_items": 2}}, "batch_size": 2})
    work = leased(run)
    leases.release(work)
    lifecycle.cancel(run.pk, actor=OPERATOR)
    AutomationRun.objects.filter(pk=run.pk).update(lifecycle="failed", cancelled_at=None, cancel_requested_at=None)

    new = retries.retry_failed(run.pk, actor=OPERATOR)

    assert new.pacing == {"stages": {"sum": {"max_items": 2}}, "batch_size": 2}
    assert definition.of(new.stages.get(slug="sum")).max_items == 2
    assert definition.of(new.stages.get(slug="fan")).slice_size == 2


def test_what_a_stage_declares_holds_unless_something_else_is_given():
    declared = definition.Definition("Few", (), "item", slice_size=9, batch_delay=7.0)

    paced = pacing.applied(declared, "few", {"batch_size": 3, "stages": {"few": {"batch_size": 4}}})

    assert (paced.slice_size, paced.batch_delay) == (4, 7.0)
    assert pacing.applied(declared, "other", {"batch_size": 3}).slice_size == 3
    assert pacing.applied(declared, "few", {}) == declared


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "Cannot use pacing: expected an object, got: 3."),
        (
            {"batch": 3},
            "Cannot use batch as pacing: expected one of batch_size, batch_delay_seconds, stage_delay_seconds, "
            "max_items, stages.",
        ),
        ({"batch_size": 0}, "Cannot use batch_size: expected a whole number from 1 to 10,000, got: 0."),
        ({"batch_size": 1.5}, "Cannot use batch_size: expected a whole number from 1 to 10,000, got: 1.5."),
        ({"batch_size": True}, "Cannot use batch_size: expected a whole number from 1 to 10,000, got: True."),
        ({"max_items": "7"}, "Cannot use max_items: expected a whole number from 1 to 1,000,000,000, got: '7'."),
        (
            {"batch_delay_seconds": -1},
            "Cannot use batch_delay_seconds: expected seconds from 0 to 2,592,000, got: -1.",
        ),
        (
            {"stage_delay_seconds": float("nan")},
            "Cannot use stage_delay_seconds: expected seconds from 0 to 2,592,000, got: nan.",
        ),
        ({"stages": 3}, "Cannot use stages: expected an object with a member for each stage, got: 3."),
        ({"stages": {"x": {}}}, "Cannot use the pacing of stage 'x': expected one of fan, sum, few."),
        ({"stages": {"sum": 3}}, "Cannot use sum: expected an object, got: 3."),
        (
            {"stages": {"sum": {"stages": {}}}},
            "Cannot use sum.stages as pacing: expected one of batch_size, batch_delay_seconds, stage_delay_seconds, "
            "max_items.",
        ),
        (
            {"stages": {"fan": {"stage_delay_seconds": 3}}},
            "Cannot use fan.stage_delay_seconds: no stage comes before it.",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_what_is_allowed(given: Any, sentence: str):
    with pytest.raises(InvalidPacing) as refused:
        make_run("chain", items=3, pace=given)

    assert str(refused.value) == sentence
    assert AutomationRun.objects.count() == 0


def test_a_batch_of_groups_is_whole_groups():
    group = get_pipeline("chain").stage("sum").group_size
    assert group > 1

    with pytest.raises(InvalidPacing, match=f"sum.batch_size: expected a multiple of {group}"):
        make_run("chain", items=3, pace={"stages": {"sum": {"batch_size": group + 1}}})
