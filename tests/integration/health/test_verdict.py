"""The health verdict: what it says of a system that works, waits, is held, or is broken."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from automation.models import AutomationRun, StageRun, Ticket
from automation.runs import lifecycle
from pause_manager import fleet, health, holds
from pause_manager.holds import fleet_state
from pause_manager.models import Hold, PollState
from pause_manager.nodes import members
from pause_manager.observability import counters, metrics
from tests.support.api_users import OPERATE, VIEW, client_of, make_user
from tests.support.factories import OPERATOR, drain, leased, make_run, make_site, stage_of

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1/health/"


def polled(ago: timedelta = timedelta()) -> None:
    PollState.objects.update_or_create(pk=1, defaults={"polled_at": Now() - ago})


def worker(queue: str = "stages") -> None:
    members.acknowledge("w1", node="node-1", queues=[queue], version=fleet_state.read().version, owner="node-1/1/1")


def found(question: str) -> dict[str, Any]:
    """By code, the findings of one question."""
    (answer,) = [one for one in health.judge().answers if one.question == question]
    return {"answer": answer.answer, **{one.code: one for one in answer.findings}}


def test_without_any_work_nothing_is_claimed():
    polled()

    verdict = health.judge()

    assert verdict.is_ok
    assert verdict.sentence == "There is no work, nothing has ended lately, and the figures are fresh."


def test_work_in_progress_that_succeeds_is_flowing():
    polled()
    worker()
    drain(make_run("few", items=3))
    leased(make_run("few", items=3))

    verdict = health.judge()

    assert verdict.sentence == "Work is flowing, it is succeeding, and the figures are fresh."
    assert "1 piece of work is in progress" in found("flowing")["in_progress"].sentence
    assert found("succeeding")["runs_complete"].sentence == "The last run completed."


def test_waiting_work_without_a_worker_is_a_problem_with_a_next_step():
    polled()
    make_run("few", items=3)

    flowing = found("flowing")

    assert flowing["answer"] == "no"
    assert flowing["no_worker"].level == "problem"
    assert "start workers" in flowing["no_worker"].next_step


def test_messages_that_nobody_takes_are_a_problem_and_those_of_busy_workers_are_not():
    polled()
    worker()
    waiting = make_run("few", items=3)
    Ticket.objects.filter(stage_run__run=waiting).update(sent_at=Now() - timedelta(minutes=5))

    assert found("flowing")["not_answered"].level == "problem"

    leased(make_run("few", items=3))

    flowing = found("flowing")
    assert "not_answered" not in flowing
    assert flowing["workers_busy"].level == "note"
    assert flowing["answer"] == "yes"


def test_messages_under_a_hold_are_held_and_no_problem():
    polled()
    worker()
    waiting = make_run("few", items=3)
    Ticket.objects.filter(stage_run__run=waiting).update(sent_at=Now() - timedelta(minutes=5))
    holds.place(["queue:stages"], actor=OPERATOR, reason="the GPU is needed")

    flowing = found("flowing")

    assert flowing["answer"] == "held"
    assert flowing["held"].sentence == "1 queue is held."
    assert "not_answered" not in flowing


def test_a_queue_that_no_worker_serves_is_named():
    polled()
    worker("other")
    make_run("few", items=3)

    flowing = found("flowing")

    assert flowing["queue_unserved"].level == "problem"
    assert "-Q stages" in flowing["queue_unserved"].next_step


def test_a_paused_fleet_is_held_with_who_and_why():
    polled()
    worker()
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR, confirmation="test")

    flowing = found("flowing")

    assert flowing["answer"] == "held"
    assert flowing["fleet_paused"].sentence == "The fleet is paused (drain) by olga: upgrade"
    assert health.judge().is_ok


def test_holds_that_may_be_forgotten_are_noted():
    polled()
    run = make_run("few", items=3)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    Hold.objects.update(created_at=Now() - timedelta(days=3))

    flowing = found("flowing")

    assert flowing["old_holds"].level == "note"
    assert flowing["old_holds"].detail == f"the oldest is on run:{run.pk}, by olga"
    assert str(run.pk) not in flowing["old_holds"].sentence


def test_loops_and_items_that_fail_are_problems():
    polled()
    worker()
    run = make_run("few", items=3)
    StageRun.objects.filter(pk=stage_of(run).pk).update(loop_failures=3, loop_error="FileNotFoundError: model.bin")

    succeeding = found("succeeding")

    assert succeeding["answer"] == "no"
    assert "model.bin" in succeeding["loops_fail"].detail
    assert "model.bin" not in succeeding["loops_fail"].sentence


def test_runs_that_fail_are_counted_over_a_day():
    polled()
    for _ in range(2):
        run = make_run("few", items=1)
        AutomationRun.objects.filter(pk=run.pk).update(
            lifecycle="failed",
            finished_at=Now(),
            started_at=Now(),
            failure="too many items failed",
            lane_seat_at=None,
        )

    succeeding = found("succeeding")
    assert succeeding["answer"] == "no"
    assert "Of 2 runs that ended within a day, 0 completed and 2 failed" in succeeding["runs_fail"].sentence

    AutomationRun.objects.update(finished_at=Now() - timedelta(days=2))

    assert found("succeeding")["answer"] == "unknown"


@pytest.mark.parametrize("ago", [None, timedelta(minutes=10)])
def test_without_a_poll_the_figures_are_not_fresh(ago):
    if ago is not None:
        polled(ago)

    fresh = found("fresh")

    assert fresh["answer"] == "no"
    assert "celery beat" in fresh["poll_late"].next_step
    assert not health.judge().is_ok


def test_a_clock_that_jumps_is_noted():
    polled()

    with time_machine.travel(timedelta(minutes=5), tick=True):
        fresh = found("fresh")

    assert fresh["clocks_differ"].level == "note"


def test_a_layer_of_the_gate_that_failed_lately_is_a_problem():
    polled()
    metrics.DEGRADED.add(layer="holds")
    counters.flush()

    assert re.search(r"could not read (\w+, )*holds", found("fresh")["gate_degraded"].sentence)


def test_while_redis_is_away_it_says_so(settings, monkeypatch):
    polled()
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "redis_url": "redis://127.0.0.1:9/0"}

    fresh = found("fresh")

    assert fresh["answer"] == "no"
    assert fresh["redis_away"].level == "problem"


def test_the_statements_do_not_grow_with_the_work():
    polled()
    worker()
    leased(make_run("few", items=3))
    with CaptureQueriesContext(connection) as few:
        health.judge()
    for _ in range(10):
        leased(make_run("few", items=3))
    with CaptureQueriesContext(connection) as many:
        health.judge()

    assert len(many) == len(few) <= 40


def test_the_command_and_its_exit_codes(shell):
    polled()
    good = shell("health")
    told = shell("health", "--json").objects[0]
    polled(timedelta(hours=1))
    bad = shell("health")

    assert (good.code, bad.code) == (0, 1)
    assert "The figures are fresh." in good.out
    assert told["is_ok"] is True
    assert [one["question"] for one in told["answers"]] == ["flowing", "succeeding", "fresh"]
    assert "next: start celery beat" in bad.out


def test_over_http_names_are_for_operators():
    polled()
    site = make_site("acme")
    run = make_run("few", items=3, site=site)
    StageRun.objects.filter(pk=stage_of(run).pk).update(loop_failures=3, loop_error="secret")
    operator, viewer = make_user("olga", site, VIEW, OPERATE), make_user("victor", site, VIEW)
    operator.user_permissions.add(_operate_fleet())

    whole = client_of(operator).get(URL)
    less = client_of(viewer).get(URL)

    assert (whole.status_code, less.status_code) == (200, 200)
    assert "secret" in json.dumps(whole.json())
    assert "secret" not in json.dumps(less.json())
    assert str(run.pk) not in json.dumps(less.json())
    assert client_of(None).get(URL).status_code == 401


def _operate_fleet() -> Any:
    from django.contrib.auth.models import Permission

    return Permission.objects.get(codename="operate_fleet")
