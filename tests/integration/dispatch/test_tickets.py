"""Messages: how many are sent, what a lost one costs, what a second one does. Real Redis, no worker."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.utils import timezone

from automation import conf, dispatch, tasks
from automation.models import AutomationRun, Lifecycle, Ticket
from automation.runs import lifecycle, reconciler
from tests.support.factories import OPERATOR, claim, depth, drain, make_run, outputs, rows, run_loop, stage_of, tickets

pytestmark = pytest.mark.django_db(transaction=True)


def age(run, seconds: float) -> None:
    Ticket.objects.filter(stage_run__run=run).update(sent_at=timezone.now() - timedelta(seconds=seconds))


def flush_broker() -> None:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.flushdb()


def test_as_many_messages_are_sent_as_loops_are_wanting():
    run = make_run("few", items=5)
    assert (tickets(run), depth()) == (2, 2)  # its concurrency

    claim(run)
    Ticket.objects.all().delete()

    assert dispatch.dispatch([stage_of(run).pk]) == 1
    assert dispatch.dispatch([stage_of(run).pk]) == 0
    assert dispatch.dispatch() == 0


def test_no_more_messages_are_sent_than_there_are_slices():
    assert tickets(make_run("few", items=1)) == 1
    assert tickets(make_run("scripted", items=12)) == 3


def test_no_more_messages_are_sent_than_the_setting_allows(settings):
    settings.AUTOMATION = {**settings.AUTOMATION, "max_loops": 4}

    assert tickets(make_run("scripted", items=100)) == 4


def test_a_message_says_no_more_than_which_stage_to_look_at():
    run = make_run("few", items=1)

    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        message = json.loads(client.lindex("stages", 0))

    ticket = Ticket.objects.get()
    arguments, *_ = json.loads(base64.b64decode(message["body"]))
    assert arguments == [stage_of(run).pk, ticket.pk]
    assert message["content-type"] == "application/json"


def test_messages_lost_by_the_broker_are_sent_again():
    run = make_run("few", items=5)
    flush_broker()
    reconciler.reconcile()
    assert depth() == 0  # they may still be on their way

    age(run, conf.settings().ticket_grace_seconds + 1)
    reconciler.reconcile()

    assert (tickets(run), depth()) == (2, 2)
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def test_messages_that_only_wait_are_not_sent_again():
    run = make_run("few", items=5)
    before = set(Ticket.objects.values_list("pk", flat=True))
    age(run, 60)

    reconciler.reconcile()

    assert set(Ticket.objects.values_list("pk", flat=True)) == before
    assert depth() == 2


def test_a_message_without_its_ticket_does_nothing():
    run = make_run("few", items=5)
    ticket = Ticket.objects.earliest("pk")
    stage_run = stage_of(run)
    tasks.stage_loop(stage_run.pk, ticket.pk)
    before = rows(run)

    tasks.stage_loop(stage_run.pk, ticket.pk)
    tasks.stage_loop(stage_run.pk, 0)

    assert rows(run) == before


def test_every_message_twice_makes_no_output_twice():
    run = make_run("chain", items=9)
    expected = outputs(drain(make_run("chain", items=9)))

    while ticket := Ticket.objects.filter(stage_run__run=run).first():
        for _ in range(2):
            tasks.stage_loop(ticket.stage_run_id, ticket.pk)

    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.COMPLETED
    assert outputs(run) == expected


def test_a_message_for_a_stage_that_is_finished_leaves_no_trace_in_the_log():
    run = make_run("fan-out", items=3)
    stage_run = stage_of(run)
    run_loop(run)
    Ticket.objects.all().delete()
    before = rows(run)
    late = Ticket.objects.create(stage_run=stage_run, queue="stages")

    tasks.stage_loop(stage_run.pk, late.pk)

    assert rows(run) == before


def test_a_message_for_a_run_that_is_gone_ends_quietly():
    tasks.stage_loop(123_456, 1)

    assert not Ticket.objects.exists()


def test_a_loop_hands_itself_back_after_its_time(settings):
    settings.AUTOMATION = {**settings.AUTOMATION, "loop_seconds": 0.000_001}
    run = make_run("few", items=3)
    ticket = Ticket.objects.earliest("pk")

    tasks.stage_loop(ticket.stage_run_id, ticket.pk)

    assert tickets(run) == 2
    settings.AUTOMATION = {}
    assert drain(run).lifecycle == Lifecycle.COMPLETED


PROGRAM = """
import json, sys, time
import django
django.setup()
from tests.support.factories import OPERATOR, make_run
from automation.runs import lifecycle

took = {}
def timed(name, verb):
    started = time.monotonic()
    result = verb()
    took[name] = time.monotonic() - started
    return result

run = timed("create", lambda: make_run("few", items=5))
timed("pause", lambda: lifecycle.pause(run.pk, actor=OPERATOR))
timed("resume", lambda: lifecycle.resume(run.pk, actor=OPERATOR))
timed("cancel", lambda: lifecycle.cancel(run.pk, actor=OPERATOR))
run.refresh_from_db()
print(json.dumps({"took": took, "lifecycle": run.lifecycle}))
"""


@pytest.mark.req("M-08")
def test_the_verbs_work_and_answer_quickly_while_redis_is_away(process_env, tmp_path):
    env = {**process_env, "REDIS_URL": f"unix://{tmp_path}/none.sock?db=0"}

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[3],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["lifecycle"] == "cancelled"
    assert all(seconds < 2 for seconds in said["took"].values()), said


def test_a_run_made_while_redis_was_away_is_sent_for_once_it_is_back(process_env, tmp_path):
    env = {**process_env, "REDIS_URL": f"unix://{tmp_path}/none.sock?db=0"}
    program = "import django; django.setup(); from tests.support import factories; factories.make_run('few', items=5)"
    subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], env=env, check=True, capture_output=True
    )
    run = AutomationRun.objects.get()
    assert (run.lifecycle, tickets(run), depth()) == (Lifecycle.RUNNING, 2, 0)

    age(run, 60)
    reconciler.reconcile()

    assert depth() == 2
    assert lifecycle.cancel(run.pk, actor=OPERATOR).lifecycle == Lifecycle.CANCELLED
