"""How work moves from stage to stage: order, branches, joins, hooks, groups, stages without items."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from automation.models import AutomationRun, ItemFailure, Lifecycle, WorkItem, WorkSlice
from automation.models.runs import lock_runs
from automation.pipeline import get_pipeline
from automation.pipeline.context import Artifacts
from automation.reports import progress
from automation.runs import advancing, lanes, lifecycle
from tests.support import pipelines
from tests.support.factories import (
    OPERATOR,
    claim,
    drain,
    events,
    everything,
    expire_leases,
    make_run,
    make_site,
    outputs,
    run_loop,
    settle,
    stage_of,
)
from tests.support.race import in_thread, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)


def test_outputs_of_a_stage_are_the_items_of_the_next():
    run = drain(make_run("fan-out", items=5))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [output["n"] for output in outputs(run, "fan")] == [10, 20, 21, 30, 31, 32, 50]
    assert [output["square"] for output in outputs(run)] == [100, 400, 441, 900, 961, 1024, 2500]
    assert list(run.stages.order_by("position").values_list("slug", "total_items")) == [
        ("input", 5),
        ("fan", 5),
        ("echo", 7),
    ]


def test_a_stage_without_items_is_complete_at_once():
    run = drain(make_run("empty"))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert outputs(run) == []
    assert progress.snapshot(run)["stages"][1] == {
        "slug": "echo",
        "title": "Echo",
        "status": "completed",
        "total_items": 0,
        "processed_items": 0,
        "failed_items": 0,
        "left_out_items": 0,
        "remaining_count": 0,
        "percentage": 100.0,
        "items_per_second": None,
        "eta_seconds": None,
    }


def test_two_branches_of_the_same_items_are_joined_without_loss():
    run = drain(make_run("diamond", items=5))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert not ItemFailure.objects.exists()
    assert [(output["n"], output["path"]) for output in outputs(run)] == [
        (n, [branch, "join"]) for branch in ("left", "right") for n in range(1, 6)
    ]


def test_a_failed_item_of_each_branch_is_recorded_in_a_join(monkeypatch):
    def refuse(self, item, ctx):
        raise ValueError("no")

    monkeypatch.setattr(pipelines.Diamond.stage("join"), "process", refuse)

    run = drain(make_run("diamond", items=3))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert ItemFailure.objects.filter(stage_run__run=run).count() == 6


def test_a_join_waits_for_both_branches():
    run = make_run("diamond", items=3)

    run_loop(run, "left")

    assert run.stages.get(slug="left").lifecycle == Lifecycle.COMPLETED
    assert run.stages.get(slug="join").lifecycle == Lifecycle.PENDING


def test_two_branches_that_end_at_the_same_time_start_their_join():
    run = make_run("ladder", items=2)
    left, right = stage_of(run, "left"), stage_of(run, "right")
    for stage_run in (left, right):
        WorkItem.objects.create(made_by=stage_run, key="000.000", payload={"n": 1})
        stage_run.slices.update(finished_at=stage_run.started_at)

    with transaction.atomic():
        lock_runs([str(run.pk)])
        sealing = in_thread(lambda: advancing.seal(left.pk))
        wait_until_blocked(sealing)  # it has looked which stages are ready, and waits for the run
        assert advancing.seal(right.pk)
    sealing.join()

    assert set(run.stages.filter(lifecycle=Lifecycle.RUNNING).values_list("slug", flat=True)) == {"alone", "join"}


def test_a_stage_is_sealed_once():
    run = make_run("numbers", items=2)
    stage_run = stage_of(run)
    stage_run.slices.update(finished_at=stage_run.started_at)

    assert [advancing.seal(stage_run.pk) for _ in range(3)] == [True, False, False]

    assert len(events(run, "stage_completed")) == len(events(run, "complete")) == 1


def test_prepare_runs_before_the_first_item_and_finish_after_the_last():
    run = drain(make_run("hooked", items=5))

    artifacts = Artifacts(run.pk, "hooked")
    assert [output["of"] for output in outputs(run)] == [15] * 5
    assert artifacts.read("outputs.txt") == b"1,2,3,4,5"


def test_no_item_is_leased_before_prepare_is_done():
    run = make_run("hooked", items=5)

    prepare = claim(run, "a")

    assert prepare is not None
    assert prepare.source_id is None
    assert claim(run, "b") is None


def test_a_hook_that_fails_fails_the_run_and_says_why():
    run = drain(make_run("broken-hook"))

    assert run.lifecycle == Lifecycle.FAILED
    assert run.failure == "Broken hook: prepare failed: ConnectionError: no model on this host"
    assert outputs(run) == []
    assert not WorkSlice.objects.leased().exists()


def test_a_group_stage_gets_its_items_in_groups_of_neighbours():
    run = drain(make_run("grouped", items=8))

    assert [output["of"] for output in outputs(run, "sum")] == [
        [10, 20, 21, 30],
        [31, 32, 50, 60],
        [61, 70, 71, 72],
    ]


@pytest.mark.parametrize("slice_size", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 5, 1000))])
@pytest.mark.parametrize("slug", ["fan-out", "grouped", "diamond", "hooked"])
def test_outputs_do_not_depend_on_the_slicing(slug, slice_size, monkeypatch):
    expected = everything(drain(make_run(slug, items=11)))
    for stage in get_pipeline(slug).stages:
        monkeypatch.setattr(stage, "slice_size", slice_size)

    run = drain(make_run(slug, items=11))

    assert everything(run) == expected


def test_outputs_do_not_depend_on_the_order_of_claims():
    expected = everything(drain(make_run("grouped", items=11)))
    run = make_run("grouped", items=11)
    while work := claim(run, "greedy"):
        # The first slices stay leased by somebody who never comes back, so that the loop takes the later ones.
        if work.last_key == run.stages.get(slug="fan").slices.order_by("-ordinal")[0].last_key:
            break

    expire_leases(run)
    settle(run)

    assert everything(run) == expected


def test_one_run_that_cannot_go_on_does_not_keep_the_others():
    broken, sound = make_run("numbers", items=2), make_run("numbers", items=2)
    AutomationRun.objects.filter(pk=broken.pk).update(pipeline="no-longer-installed")
    for run in (broken, sound):
        stage_of(run).slices.update(finished_at=run.started_at)

    advancing.seal_finished()

    sound.refresh_from_db()
    assert sound.lifecycle == Lifecycle.COMPLETED


def test_one_run_that_cannot_start_does_not_keep_the_others():
    broken, sound = make_run("numbers", start=False), make_run("numbers", start=False)
    for run in (broken, sound):
        AutomationRun.objects.filter(pk=run.pk).update(start_requested_at=run.created_at)
    AutomationRun.objects.filter(pk=broken.pk).update(pipeline="no-longer-installed")

    lanes.fill_all()

    sound.refresh_from_db()
    assert sound.lifecycle == Lifecycle.RUNNING


def test_a_start_that_the_reconciler_makes_first_is_no_refusal():
    run = make_run("numbers", items=3, start=False)
    started: list[AutomationRun] = []

    with transaction.atomic(), connection.cursor() as cursor:
        # Whoever starts must read the items to cut them: that is where the other one waits.
        cursor.execute("LOCK TABLE automation_workitem IN ACCESS EXCLUSIVE MODE")
        starting = in_thread(lambda: started.append(lifecycle.start_run(run.pk, actor=OPERATOR)))
        wait_until_blocked(starting)
        assert lanes.fill_all() == 1
    starting.join()

    assert [one.lifecycle for one in started] == [Lifecycle.RUNNING]
    assert len(events(run, "start")) == 1


def test_a_run_that_is_held_while_it_starts_stays_pending():
    run = make_run("numbers", items=3, start=False)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE automation_workitem IN ACCESS EXCLUSIVE MODE")
        starting = in_thread(lambda: lifecycle.start_run(run.pk, actor=OPERATOR))
        wait_until_blocked(starting)
        lifecycle.pause(run.pk, actor=OPERATOR)
    starting.join()

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.PENDING
    lifecycle.resume(run.pk, actor=OPERATOR)
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.RUNNING


def test_resuming_one_run_does_not_carry_the_cost_of_all_that_wait():
    """M-08: resume is bounded work; the others are the reconciler's."""
    waiting = [make_run("numbers", items=1, start=False) for _ in range(3)]
    for run in waiting:
        AutomationRun.objects.filter(pk=run.pk).update(start_requested_at=run.created_at)
    held = make_run("numbers", items=1, site=make_site())
    lifecycle.pause(held.pk, actor=OPERATOR)

    lifecycle.resume(held.pk, actor=OPERATOR)

    assert set(
        AutomationRun.objects.filter(pk__in=[run.pk for run in waiting]).values_list("lifecycle", flat=True)
    ) == {Lifecycle.PENDING}
