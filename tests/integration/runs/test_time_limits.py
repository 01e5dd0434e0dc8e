"""The time-out of a run counts working time: pauses of every kind stop its clock."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from automation.models import AutomationRun, Lifecycle
from automation.reports import progress
from automation.reports.working_time import durations_of
from automation.runs import lifecycle, reconciler
from pause_manager import holds
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, drain, events, leased, make_run, outputs, run_loop

pytestmark = pytest.mark.django_db(transaction=True)


def started_ago(run: AutomationRun, seconds: float) -> None:
    """As if it had been started so long ago, and had a worker since."""
    run.standstills.all().delete()
    AutomationRun.objects.filter(pk=run.pk).update(started_at=F("started_at") - timedelta(seconds=seconds))


def held(scope: str, begin: float, end: float | None = None, kind: str = "operator") -> None:
    """A hold that was placed ``begin`` seconds ago and released ``end`` seconds ago; without ``end`` it is in force."""
    holds.place([scope], kind=Hold.Kind(kind), actor=OPERATOR, reason="then")
    hold = Hold.objects.get(scope=scope, kind=kind, released_at=None)
    if end is not None:
        holds.release([scope], kind=Hold.Kind(kind), actor=OPERATOR)
    shift = {"created_at": f"clock_timestamp() - interval '{begin} seconds'"}
    if end is not None:
        shift["released_at"] = f"clock_timestamp() - interval '{end} seconds'"
    with connection.cursor() as cursor:
        sets = ", ".join(f"{name} = {value}" for name, value in shift.items())
        cursor.execute(f"UPDATE {Hold._meta.db_table} SET {sets} WHERE id = %s", [hold.pk])


def status(run: AutomationRun) -> str:
    run.refresh_from_db()
    return run.lifecycle


@pytest.mark.req("W-52")
def test_a_run_fails_when_it_has_worked_for_longer_than_it_may():
    run, other = make_run(timeout_seconds=600), make_run()
    work = leased(run)
    for one in (run, other):
        started_ago(one, 570)
    reconciler.reconcile()
    assert status(run) == Lifecycle.RUNNING

    started_ago(run, 31)
    started_ago(other, 10_000)
    reconciler.reconcile()

    assert (status(run), status(other)) == (Lifecycle.FAILED, Lifecycle.RUNNING)
    assert re.fullmatch(r"It worked for 6[0-3]\d s; its timeout is 600 s\. Pauses do not count\.", run.failure)
    (event,) = events(run, "fail")
    assert event.details["timeout_seconds"] == 600
    assert 601 <= event.details["worked_seconds"] < 640
    assert work.slice_id
    run_loop(run)
    assert outputs(run) == [], "nothing of it is done any more"


@pytest.mark.req("W-52")
@pytest.mark.parametrize(
    "stretches",
    [
        [("run", 900, 10, "operator")],
        [("run", 900, 10, "capacity")],
        [("fleet", 900, 10, "operator")],
        [("pipeline:numbers", 900, 10, "operator")],
        [("queue:stages", 900, 10, "operator")],
        [("run", 900, None, "operator")],
        [("fleet", 5000, None, "operator")],
        [("run", 900, 400, "operator"), ("fleet", 600, 10, "operator")],
        [("run", 900, 700, "operator"), ("run", 700, 10, "budget")],
    ],
)
def test_what_keeps_a_run_stops_its_clock(stretches):
    run = make_run(timeout_seconds=60)
    started_ago(run, 940)

    for scope, begin, end, kind in stretches:
        held(run.scope if scope == "run" else scope, begin, end, kind)
    reconciler.reconcile()

    assert status(run) == Lifecycle.RUNNING


@pytest.mark.req("W-52")
def test_a_hold_on_a_resource_stops_the_clock_of_who_uses_it():
    user, other = make_run(timeout_seconds=60), make_run(timeout_seconds=60)
    stage_run = user.stages.get(lifecycle=Lifecycle.RUNNING)
    stage_run.definition = {**(stage_run.definition or {}), "uses": ["openai"]}
    stage_run.save()
    for run in (user, other):
        started_ago(run, 940)

    held("resource:openai", 900, 10)
    reconciler.reconcile()

    assert (status(user), status(other)) == (Lifecycle.RUNNING, Lifecycle.FAILED)


@pytest.mark.req("W-52")
def test_holds_that_overlap_count_once_and_those_of_others_not_at_all():
    run, other = make_run(), make_run()
    started_ago(run, 1000)
    held(run.scope, 900, 500)
    held("fleet", 800, 400)
    held(run.scope, 600, 100, "capacity")
    held(other.scope, 1000, 0)
    held("pipeline:drill", 1000, 0)
    held("fleet", 5000, 2000)

    run.refresh_from_db()
    taken = durations_of([run, other])

    assert taken[run.pk].active == pytest.approx(1000 - 800, abs=20)
    assert taken[other.pk].active == pytest.approx(0, abs=20)
    shown = progress.snapshot(run)["durations"]
    assert shown["total_seconds"] == pytest.approx(1000, abs=20)
    assert shown["active_seconds"] == pytest.approx(200, abs=20), "the page, the API and the time-out say the same"


@pytest.mark.req("W-52")
def test_a_run_that_ended_has_its_figure_for_ever_and_a_retry_has_its_limit():
    run = make_run("scripted", timeout_seconds=3600)
    drain(run)
    started_ago(run, 100)
    run.refresh_from_db()

    assert durations_of([run])[run.pk].active == pytest.approx(100, abs=20)
    assert durations_of([run]) == durations_of([run])


def test_a_cancel_that_is_under_way_is_not_overtaken():
    run = make_run(timeout_seconds=60)
    leased(run)
    started_ago(run, 100)
    lifecycle.cancel(run.pk, actor=OPERATOR)

    reconciler.reconcile()

    assert status(run) == Lifecycle.RUNNING, "its worker still holds a slice"


def stage_started_ago(run: AutomationRun, seconds: float, timeout: float) -> None:
    stage_run = run.stages.get(lifecycle=Lifecycle.RUNNING)
    stage_run.definition = {**(stage_run.definition or {}), "timeout": timeout}
    stage_run.started_at = timezone.now() - timedelta(seconds=seconds)
    stage_run.save()
    started_ago(run, seconds)


@pytest.mark.req("W-52")
def test_a_stage_that_works_for_longer_than_its_timeout_fails_the_run():
    late, early = make_run(), make_run()
    stage_started_ago(late, 700, 600)
    stage_started_ago(early, 500, 600)

    reconciler.reconcile()

    assert (status(late), status(early)) == (Lifecycle.FAILED, Lifecycle.RUNNING)
    assert re.fullmatch(r"Stage \w+ worked for 7[0-3]\d s; its timeout is 600 s\. Pauses do not count\.", late.failure)
    (event,) = events(late, "fail")
    assert event.details["stage"] == late.stages.get(position=0).slug


@pytest.mark.req("W-52")
def test_a_pause_stops_the_clock_of_a_stage_and_one_before_its_start_does_not_count():
    paused, not_paused = make_run(), make_run()
    for run in (paused, not_paused):
        stage_started_ago(run, 700, 600)
    held(paused.scope, 650, 400)
    held(not_paused.scope, 2000, 1000)

    reconciler.reconcile()

    assert (status(paused), status(not_paused)) == (Lifecycle.RUNNING, Lifecycle.FAILED)
