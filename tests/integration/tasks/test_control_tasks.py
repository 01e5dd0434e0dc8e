"""What beat asks for: done once an interval by the database's clock, whatever beat's own clock says."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import F
from django.test import Client

from automation import tasks as engine
from pause_manager import control_task, holds, tasks
from pause_manager.messaging.redis_clients import bounded
from pause_manager.models import CounterTotal, Hold, PollState
from pause_manager.observability import counters
from pause_manager.schedule import BEAT_SCHEDULE, INTERVAL
from tests.support.factories import OPERATOR
from tests.support.workers import REPOSITORY, Workers, eventually

pytestmark = pytest.mark.django_db(transaction=True)


def ask(task: Any, interval: float | None = 5.0) -> None:
    """Carry out a message of beat's, as a worker does."""
    task.apply(headers={} if interval is None else {INTERVAL: interval}, throw=True)


def times_done(task: Any) -> int:
    row = CounterTotal.objects.filter(name=control_task.DONE.name, labels__contains=f'"{task.name}"').first()
    return int(row.value) if row else 0


def test_of_a_backlog_of_messages_one_is_acted_on_and_the_others_cost_a_statement_each(
    django_assert_num_queries: Any,
):
    ask(tasks.expire_holds)
    with django_assert_num_queries(1):
        ask(tasks.expire_holds)
    for _ in range(20):
        ask(tasks.expire_holds)

    assert times_done(tasks.expire_holds) == 1
    CounterTotal.objects.update(counted_at=F("counted_at") - timedelta(seconds=2.6))
    ask(tasks.expire_holds)
    assert times_done(tasks.expire_holds) == 2, "half an interval is over"


def test_a_message_that_does_not_say_how_often_it_comes_is_acted_on():
    for _ in range(3):
        ask(tasks.poll, interval=None)
        first = PollState.objects.get().polled_at
    ask(tasks.poll, interval=10)
    ask(tasks.poll, interval=10)

    last = PollState.objects.get().polled_at
    assert first is not None
    assert last is not None
    assert last > first
    assert times_done(tasks.poll) == 1


def test_of_two_workers_that_ask_at_once_one_does_it():
    start, done = threading.Barrier(8), []

    def worker() -> None:
        start.wait()
        done.append(counters.add_unless_lately("duty", "", 60.0))
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == [False] * 7 + [True]


@pytest.mark.parametrize("task", [engine.reconcile, engine.reap_leases, tasks.expire_holds, tasks.forget_history])
def test_a_database_that_is_away_is_no_error_of_a_control_task(task: Any, caplog: pytest.LogCaptureFixture):
    def away(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> None:
        raise OperationalError("the server closed the connection")

    with connection.execute_wrapper(away), caplog.at_level(logging.ERROR):
        ask(task)

    assert caplog.records == []
    ask(task)
    assert times_done(task) == 1


@pytest.mark.parametrize("schedule", [BEAT_SCHEDULE, settings.CELERY_BEAT_SCHEDULE])
def test_no_message_of_beat_s_expires_by_its_clock_and_each_says_how_often_it_comes(schedule: Any):
    for entry in schedule.values():
        assert "expires" not in entry["options"]
        assert entry["options"]["headers"] == {INTERVAL: entry["schedule"]}


@pytest.fixture
def control(process_env: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path)})
    try:
        yield workers
    finally:
        workers.close()


BEAT = """
import sys, time
import time_machine
time_machine.travel(time.time() - 90, tick=True).start()
sys.argv[1:] = ["-A", "backend", "beat", "-l", "WARNING"]
from celery.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_beat_that_lives_in_the_past_ends_timed_holds_all_the_same_and_is_named(control: Workers, client: Client):
    """By the worker's clock each of its messages had expired long ago."""
    ended = datetime(2020, 1, 1, tzinfo=UTC)
    holds.place(["queue:a"], actor=OPERATOR, reason="for a moment", expires_at=ended)
    control.start("control")
    pipe = subprocess.PIPE

    beat = subprocess.Popen([sys.executable, "-c", BEAT], cwd=REPOSITORY, env=control.env, stderr=pipe, text=True)
    try:
        assert eventually(lambda: not Hold.objects.active().exists(), 30)
        assert eventually(lambda: times_done(engine.reconcile) >= 2, 30)
        checks = client.get("/readyz").json()["checks"]
    finally:
        beat.kill()
        beat.communicate()

    named = re.fullmatch(r"the clock of beat on .* is (\d+\.\d) s behind the database's", checks["clocks"])
    assert named, checks
    assert float(named[1]) > 89
    assert checks["beat"] == "ok"


@pytest.mark.slow
def test_a_backlog_of_control_messages_is_gone_at_once(control: Workers):
    for _ in range(200):
        for task in ("pause_manager.expire_holds", "automation.reconcile"):
            current_app.send_task(task, queue="control", headers={INTERVAL: 5.0})

    control.start("control")

    assert eventually(lambda: times_done(engine.reconcile) >= 1, 20)
    with bounded(settings.REDIS_URL, 1) as broker:
        assert eventually(lambda: not broker.exists("control", "unacked"), 40), control.said("control")[-2000:]
    assert times_done(tasks.expire_holds) <= 5
