"""Pause, resume and cancel of a run at work: what goes on, what stops, what is kept, what the record says."""

from __future__ import annotations

import time

import pytest

from automation import gate, leases
from automation.errors import TransitionRefused
from automation.models import AutomationRun, Lifecycle, WorkItem, WorkSlice
from automation.reports import progress, status
from automation.reports.working_time import durations_of
from automation.runs import failing, lifecycle, reconciler
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.factories import (
    OPERATOR,
    claim,
    drain,
    events,
    everybody_has_heard,
    everything,
    leased,
    make_run,
    outputs,
    rows,
    run_loop,
    stage_of,
    tickets,
)
from tests.support.pipelines import scripted, wait_until
from tests.support.race import in_thread

pytestmark = pytest.mark.django_db(transaction=True)


def pause_during(run: AutomationRun, item: int, seen: list[int]):
    """A script that pauses the run while ``item`` is at work, and waits until the loop has heard of it."""

    def script(payload, ctx):
        seen.append(payload["n"])
        if payload["n"] == item:
            lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
            everybody_has_heard()

    return script


@pytest.mark.req("A-02")
@pytest.mark.req("M-05")
@pytest.mark.parametrize("slug", ["scripted", "buffered"])
@pytest.mark.parametrize("item", [1, 3, 5, 6])
def test_the_current_item_is_finished_and_saved_and_no_other_starts(slug, item):
    run = make_run(slug, items=12)
    started: list[int] = []

    with scripted(pause_during(run, item, started)):
        run_loop(run)

    assert started == list(range(1, item + 1))
    assert [output["n"] for output in outputs(run)] == started
    assert status.of(AutomationRun.objects.get(pk=run.pk)) == "paused"
    assert tickets(run) == 2  # those of the other loops that were asked for; none for this one


@pytest.mark.req("A-04")
@pytest.mark.req("M-11")
@pytest.mark.req("A-40")
@pytest.mark.parametrize("slug", ["scripted", "buffered"])
@pytest.mark.parametrize("item", [1, 3, 5, 6, 11])
def test_a_resumed_run_goes_on_with_the_next_item_and_repeats_none(slug, item):
    undisturbed = everything(drain(make_run(slug, items=12)))
    run = make_run(slug, items=12)
    started: list[int] = []
    with scripted(pause_during(run, item, started)):
        run_loop(run)

    lifecycle.resume(run.pk, actor=OPERATOR)
    with scripted(lambda payload, ctx: started.append(payload["n"])):
        drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert started == list(range(1, 13))
    assert everything(run) == undisturbed


@pytest.mark.req("M-10")
@pytest.mark.req("W-50")
def test_pause_and_resume_leave_every_item_and_slice_as_it_was():
    run = make_run("scripted", items=12)
    with scripted(pause_during(run, 3, [])):
        run_loop(run)
    before = rows(run)

    lifecycle.resume(run.pk, actor=OPERATOR)
    lifecycle.pause(run.pk, actor=OPERATOR)

    after = rows(run)
    assert after["slices"] == before["slices"]
    assert after["stages"] == before["stages"]
    assert after["items"] == before["items"]
    assert after["run"]["lifecycle"] == before["run"]["lifecycle"] == Lifecycle.RUNNING


@pytest.mark.req("M-06")
@pytest.mark.req("M-19")
def test_pausing_is_shown_until_the_last_worker_has_given_its_slice_back():
    run = make_run("scripted", items=3)
    shown: list[str] = []

    def script(payload, ctx):
        shown.append(status.of(lifecycle.pause(run.pk, actor=OPERATOR)))
        everybody_has_heard()
        shown.append(status.of(AutomationRun.objects.get(pk=run.pk)))

    with scripted(script):
        run_loop(run)

    assert shown == ["pausing", "pausing"]
    assert status.of(AutomationRun.objects.get(pk=run.pk)) == "paused"


@pytest.mark.req("M-12")
def test_the_event_of_a_pause_keeps_who_was_on_which_item():
    run = make_run("scripted", items=12)
    work = leased(run, "a")
    other = leased(run, "b")

    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")

    [event] = events(run, "hold_placed")
    assert [(at["worker"], at["node"], at["stage"], at["slice"], at["item"]) for at in event.details["in_flight"]] == [
        ("test/a", "node-1", "scripted", work.slice_id, "000"),
        ("test/b", "node-1", "scripted", other.slice_id, "005"),
    ]


@pytest.mark.req("A-07")
def test_each_stop_writes_a_line_that_names_stage_item_and_reason():
    run = make_run("scripted", items=12)
    with scripted(pause_during(run, 3, [])):
        run_loop(run)

    [line] = events(run, "stopped")

    assert line.reason == "scripted: stopped after item 002: operator hold: lunch"


@pytest.mark.req("M-20")
def test_resume_while_pausing_cancels_the_pause():
    run = make_run("scripted", items=3)

    def script(payload, ctx):
        if payload["n"] == 1:
            lifecycle.pause(run.pk, actor=OPERATOR)
            assert status.of(lifecycle.resume(run.pk, actor=OPERATOR)) == "running"

    with scripted(script):
        drain(run)

    assert run.lifecycle == Lifecycle.COMPLETED
    assert len(outputs(run)) == 3


@pytest.mark.req("M-20")
@pytest.mark.req("A-42")
def test_a_second_pause_changes_nothing_and_a_second_resume_is_refused():
    run = make_run("scripted", items=12)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="first")
    before = rows(run)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="second")
    assert rows(run) == before
    assert Hold.objects.get(released_at=None).reason == "first"
    lifecycle.resume(run.pk, actor=OPERATOR)
    before = rows(run)

    with pytest.raises(TransitionRefused, match="it is running"):
        lifecycle.resume(run.pk, actor=OPERATOR)

    assert rows(run) == before


@pytest.mark.req("A-42")
def test_two_resumes_queue_one_dispatch():
    run = make_run("few", items=12)
    lifecycle.pause(run.pk, actor=OPERATOR)
    drain(run)
    assert tickets(run) == 0

    lifecycle.resume(run.pk, actor=OPERATOR)
    with pytest.raises(TransitionRefused):
        lifecycle.resume(run.pk, actor=OPERATOR)

    assert tickets(run) == 2


@pytest.mark.req("W-51")
def test_a_run_that_waits_can_be_paused_and_starts_when_all_is_released():
    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")
    run = make_run("numbers")
    assert run.lifecycle == Lifecycle.PENDING
    lifecycle.pause(run.pk, actor=OPERATOR)
    assert status.of(AutomationRun.objects.get(pk=run.pk)) == "paused"

    holds.release(["fleet"], actor=OPERATOR, reason="done")
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.PENDING
    lifecycle.resume(run.pk, actor=OPERATOR)

    assert drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("A-06")
def test_a_pause_with_the_last_item_of_a_stage_is_obeyed_between_the_stages():
    run = make_run("chain", items=1)
    lifecycle.pause(run.pk, actor=OPERATOR)
    stage_run = stage_of(run)
    assert claim(run) is None

    lifecycle.resume(run.pk, actor=OPERATOR)
    run_loop(run, "fan")

    assert AutomationRun.objects.get(pk=run.pk).stages.get(pk=stage_run.pk).lifecycle == Lifecycle.COMPLETED


def test_a_pause_of_several_runs_holds_those_it_can_and_names_the_others():
    done, run = drain(make_run("numbers")), make_run("numbers")

    outcome = lifecycle.pause_runs([run.pk, done.pk], actor=OPERATOR)

    assert outcome.done == [run.pk]
    assert [str(refusal) for refusal in outcome.refused] == [f"Cannot pause run {done.pk}: it is completed."]


@pytest.mark.req("A-01")
@pytest.mark.req("A-03")
@pytest.mark.req("A-23")
def test_the_times_of_a_pause_are_kept_and_do_not_count_as_work():
    run = make_run("numbers")
    assert claim(run) is not None  # or the time in which it waits for a worker would not count either
    before = durations_of([run])[run.pk]
    paused = lifecycle.pause(run.pk, actor=OPERATOR)
    time.sleep(0.3)

    resumed = lifecycle.resume(run.pk, actor=OPERATOR)

    assert paused.paused_at is not None
    assert resumed.paused_at is None
    assert resumed.resumed_at is not None
    lasted = (resumed.resumed_at - paused.paused_at).total_seconds()
    assert lasted >= 0.3
    assert resumed.paused_seconds == pytest.approx(lasted), "one moment of the end, not one each"
    taken = durations_of([resumed])[resumed.pk]
    lasted += before.total - before.active
    assert taken.total - taken.active == pytest.approx(lasted), "and the holds say the same"
    shown = progress.snapshot(resumed)["durations"]
    assert shown["total_seconds"] - shown["active_seconds"] == pytest.approx(lasted, abs=0.011), "both are rounded"


@pytest.mark.req("M-14")
def test_nothing_spins_while_paused():
    run = make_run("scripted", items=12)
    with scripted(pause_during(run, 3, [])):
        run_loop(run)
    before = rows(run)

    for _ in range(3):
        reconciler.reap()
        reconciler.reconcile()

    assert rows(run) == before


@pytest.mark.req("M-21")
def test_an_interrupted_sleep_leaves_the_item_undone_for_the_resume():
    run = make_run("slow", items=2, params={"seconds": 30.0})
    loop = in_thread(lambda: run_loop(run))
    wait_until(lambda: WorkSlice.objects.leased().exists())

    asked = time.monotonic()
    lifecycle.pause(run.pk, actor=OPERATOR)
    loop.join()

    assert time.monotonic() - asked < 10, "it would have slept for 30 s"
    assert WorkItem.objects.filter(made_by=stage_of(run)).count() == 0
    assert not WorkSlice.objects.leased().exists()


@pytest.mark.req("A-05")
@pytest.mark.req("S-27")
def test_a_cancel_lets_the_current_item_end_and_then_ends_the_run_for_good():
    run = make_run("scripted", items=12)
    seen: list[str] = []

    def script(payload, ctx):
        if payload["n"] == 3:
            seen.append(status.of(lifecycle.cancel(run.pk, actor=OPERATOR, reason="wrong input")))
            everybody_has_heard()

    with scripted(script):
        run_loop(run)

    run.refresh_from_db()
    assert seen == ["cancelling"]
    assert run.lifecycle == Lifecycle.CANCELLED
    assert run.cancelled_at == run.finished_at
    assert [output["n"] for output in outputs(run)] == [1, 2, 3]
    drain(run)
    assert [output["n"] for output in outputs(run)] == [1, 2, 3]
    for verb in (lifecycle.pause, lifecycle.resume):
        with pytest.raises(TransitionRefused, match="it is cancelled"):
            verb(run.pk, actor=OPERATOR)


@pytest.mark.parametrize("state", ["pending", "running", "paused"])
def test_a_run_that_no_worker_holds_is_cancelled_at_once(state):
    run = make_run("numbers", start=state != "pending")
    if state == "paused":
        lifecycle.pause(run.pk, actor=OPERATOR)

    cancelled = lifecycle.cancel(run.pk, actor=OPERATOR)

    assert cancelled.lifecycle == Lifecycle.CANCELLED
    assert cancelled.paused_at is None
    assert not Hold.objects.active().exists()


@pytest.mark.req("S-29")
def test_a_repeated_cancel_leaves_no_second_trace():
    run = make_run("scripted", items=12)
    work = leased(run)
    lifecycle.cancel(run.pk, actor=OPERATOR)
    before = rows(run)
    lifecycle.cancel(run.pk, actor=OPERATOR)
    assert rows(run) == before
    assert work is not None
    leases.release(work)
    lifecycle.finish_cancels()
    before = rows(run)

    lifecycle.cancel(run.pk, actor=OPERATOR)

    assert rows(run) == before
    assert len(events(run, "cancel")) == len(events(run, "cancel_requested")) == 1


def test_a_run_that_is_being_cancelled_can_neither_be_paused_nor_fail():
    run = make_run("scripted", items=12)
    claim(run)
    lifecycle.cancel(run.pk, actor=OPERATOR)

    with pytest.raises(TransitionRefused, match="it is cancelling"):
        lifecycle.pause(run.pk, actor=OPERATOR)
    failing.fail(run.pk, reason="too late")

    assert status.of(AutomationRun.objects.get(pk=run.pk)) == "cancelling"


@pytest.mark.req("S-28")
def test_an_irreversible_item_is_never_interrupted():
    run = make_run("surgery", items=2, params={"seconds": 0.4})
    loop = in_thread(lambda: run_loop(run))
    wait_until(lambda: WorkSlice.objects.leased().exists())

    lifecycle.cancel(run.pk, actor=OPERATOR)
    loop.join()

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED
    assert [output["n"] for output in outputs(run)] == [1]


@pytest.mark.req("S-28")
def test_a_cancel_says_that_it_is_deferred(shell):
    run = make_run("surgery", items=2)
    work = leased(run)

    told = shell("cancel_run", str(run.pk))

    deferred = "Stage surgery is irreversible: the cancel is deferred until the item in progress has ended."
    assert told.out == f"Run {run.pk} is cancelling. {deferred}\n"
    run.refresh_from_db()
    assert gate.explain(run)[0].sentence == f"It is being cancelled. {deferred}"
    (event,) = events(run, "cancel_requested")
    assert event.details["deferred_by"] == ["surgery"]
    leases.release(work)
    lifecycle.finish_cancels()
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED


@pytest.mark.req("W-54")
@pytest.mark.parametrize("pipeline", ["surgery", "scripted"])
def test_a_pause_is_seen_before_an_irreversible_item(pipeline):
    run = make_run(pipeline, items=3, params={"seconds": 0.0} if pipeline == "surgery" else {})
    lifecycle.pause(run.pk, actor=OPERATOR)

    run_loop(run)

    assert outputs(run) == []


def test_every_change_has_exactly_one_event_with_actor_channel_and_reason():
    """Invariant 9."""
    run = make_run("scripted", items=5)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    lifecycle.resume(run.pk, actor=OPERATOR, reason="back")
    drain(run)

    told = [(event.action, event.actor, event.channel, event.reason) for event in events(run)]

    assert told == [
        ("create", "user:olga", "test", ""),
        ("start", "user:olga", "test", ""),
        ("stage_started", "system", "worker", "scripted: 5 items in 1 slices"),
        ("hold_placed", "user:olga", "test", "lunch"),
        ("hold_released", "user:olga", "test", "back"),
        ("went_on", "system", "worker", "Work resumed after the release."),
        ("stage_completed", "system", "worker", "scripted: all items are done"),
        ("complete", "system", "worker", "all stages are done"),
    ]


def test_events_cannot_outlive_a_change_that_was_rolled_back():
    run = make_run("numbers")
    before = ControlEvent.objects.count()

    with pytest.raises(TransitionRefused):
        lifecycle.resume(run.pk, actor=OPERATOR)

    assert ControlEvent.objects.count() == before


@pytest.mark.req("M-15")
@pytest.mark.req("A-41")
def test_a_run_paused_during_its_last_item_ends_only_after_the_resume():
    run = make_run("scripted", items=5)
    with scripted(pause_during(run, 5, [])):
        run_loop(run)

    reconciler.reconcile()
    run.refresh_from_db()
    assert (run.lifecycle, status.of(run)) == (Lifecycle.RUNNING, "paused")
    assert len(outputs(run)) == 5

    lifecycle.resume(run.pk, actor=OPERATOR)
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.COMPLETED
    assert not Hold.objects.active().exists()
    with pytest.raises(TransitionRefused, match="it is completed"):
        lifecycle.resume(run.pk, actor=OPERATOR)
    with pytest.raises(TransitionRefused, match="it is completed"):
        lifecycle.pause(run.pk, actor=OPERATOR)
