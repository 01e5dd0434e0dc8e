"""What beat asks for: done once an interval by the database's clock, whatever beat's own clock says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import F

from automation import tasks as engine
from pause_manager import control_task, holds, tallies, tasks
from pause_manager.models import Hold, PollState, Tally
from pause_manager.schedule import BEAT_SCHEDULE, INTERVAL
from tests.factories import OPERATOR
from tests.integration.capacity.fleet import messages
from tests.workers import Workers, eventually

pytestmark = pytest.mark.django_db(transaction=True)


def ask(task: Any, interval: float | None = 5.0) -> None:
    """Carry out a message of beat's, as a worker does."""
    task.apply(headers={} if interval is None else {INTERVAL: interval}, throw=True)


def times_done(task: Any) -> int:
    row = Tally.objects.filter(name=control_task.DONE.name, labels__contains=f'"{task.name}"').first()
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
    Tally.objects.update(counted_at=F("counted_at") - timedelta(seconds=2.6))
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
        done.append(tallies.add_unless_lately("duty", "", 60.0))
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


@pytest.mark.slow
def test_a_beat_that_lives_in_the_past_ends_timed_holds_all_the_same(control: Workers):
    """A message that it sent is two intervals old by any other clock, and used to be thrown away for that."""
    holds.place(["queue:a"], actor=OPERATOR, reason="for a moment", expires_at="2020-01-01T00:00:00Z")
    sent_at = time.time() - 90
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        options = {**entry["options"], "headers": {**entry["options"]["headers"], "sent_at": sent_at}}
        current_app.send_task(entry["task"], queue="control", **options)
    for _ in range(30):
        current_app.send_task("pause_manager.expire_holds", queue="control", headers={INTERVAL: 5.0})

    control.start("control")

    assert eventually(lambda: not Hold.objects.active().exists(), 20)
    assert eventually(lambda: times_done(engine.reconcile) == 1, 20)
    assert eventually(lambda: not messages(), 20)
    time.sleep(1)
    assert times_done(tasks.expire_holds) <= 2
