"""Schedules that several look at, and whose starter dies: each occurrence makes one run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from automation.errors import SiteBusy
from automation.models import AutomationRun, Schedule, ScheduleOccurrence
from automation.schedules import starting, writer
from pause_manager.actor import Actor
from tests.support.factories import OPERATOR, make_site, outputs, settle
from tests.support.race import race
from tests.support.schedules import come_due, make_schedule, outcomes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.req("A-30")]

_UNIQUE = "one_occurrence"


@pytest.fixture
def without_the_unique_row() -> Iterator[None]:
    table = ScheduleOccurrence._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {_UNIQUE}")
        yield
        cursor.execute(f"DELETE FROM {table}")
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {_UNIQUE} UNIQUE (schedule_id, due_at)")


def unlocked(pk: int, *, skip_locked: bool = False) -> Schedule | None:
    return Schedule.objects.select_related("site__account").filter(pk=pk).first()


def started_by_three(rounds: int) -> list[int]:
    """How many runs each of some occurrences made, that three control workers looked at in the same moment."""
    counts = []
    for number in range(rounds):
        schedule = make_schedule(name=f"round-{number}")
        come_due(schedule)
        race(*[starting.start_due] * 3)
        counts.append(AutomationRun.objects.filter(site=schedule.site).count())
    return counts


def test_an_occurrence_that_three_look_at_makes_one_run():
    assert started_by_three(8) == [1] * 8
    assert set(ScheduleOccurrence.objects.values_list("outcome", flat=True)) == {"started"}


@pytest.mark.slow
def test_without_the_locks_the_unique_row_alone_makes_it_one_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starting, "locked", unlocked)
    monkeypatch.setattr(starting, "lock_site", lambda site: None)

    assert started_by_three(8) == [1] * 8


def recorded_unseen(schedule: Schedule, due_at: datetime, outcome: str, *, actor: Actor, run_id: UUID) -> bool:
    ScheduleOccurrence.objects.create(
        schedule=schedule, due_at=due_at, outcome=outcome, actor=actor.name, run_id=run_id
    )
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("without_the_unique_row")
def test_without_any_of_these_it_would_make_several(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starting, "locked", unlocked)
    monkeypatch.setattr(starting, "lock_site", lambda site: None)
    monkeypatch.setattr(writer, "record", recorded_unseen)

    assert max(started_by_three(20)) > 1


def run_now(schedule: Schedule) -> bool:
    try:
        starting.run_now(schedule.pk, actor=OPERATOR)
    except SiteBusy:
        return False
    return True


@pytest.mark.req("A-24")
def test_of_two_who_run_schedules_of_a_site_now_one_is_refused():
    for number in range(8):
        site = make_site()
        one, other = make_schedule(site, f"one-{number}"), make_schedule(site, f"other-{number}")

        done = race(partial(run_now, one), partial(run_now, other))

        assert sorted(done) == [False, True]
        assert AutomationRun.objects.filter(site=site).count() == 1


@pytest.mark.slow
@pytest.mark.req("A-24")
def test_without_the_lock_on_the_site_both_would_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starting, "lock_site", lambda site: None)
    counts = []
    for number in range(20):
        site = make_site()
        one, other = make_schedule(site, f"one-{number}"), make_schedule(site, f"other-{number}")
        race(partial(run_now, one), partial(run_now, other))
        counts.append(AutomationRun.objects.filter(site=site).count())

    assert max(counts) == 2


_STARTER = """
import sys, time
import django
django.setup()
from django.db import connection
from automation.schedules import starting, writer
from pause_manager.actor import Actor

def pause(execute, sql, params, many, context):
    if sql.startswith(sys.argv[1]):
        print("there", flush=True)
        time.sleep(60)
    return execute(sql, params, many, context)

with connection.execute_wrapper(pause):
    starting.start_due()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        'INSERT INTO "automation_automationrun"',
        'INSERT INTO "automation_scheduleoccurrence"',
        'UPDATE "automation_schedule"',
    ],
)
def test_a_starter_that_is_killed_leaves_an_occurrence_that_the_next_one_starts_once(
    statement: str, process_env: dict[str, str]
):
    schedule = make_schedule()
    [due] = come_due(schedule)
    command = [sys.executable, "-c", _STARTER, statement]
    with subprocess.Popen(command, env=process_env, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "there\n"

        starter.send_signal(signal.SIGKILL)

    _until_unlocked(schedule)
    starting.start_due()
    starting.start_due()

    [run] = AutomationRun.objects.all()
    assert outcomes(schedule) == [(due, "started")]
    settle(run)
    assert len(outputs(run)) == 3


def _until_unlocked(schedule: Schedule) -> None:
    """PostgreSQL has noticed that the process is gone."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {Schedule._meta.db_table} WHERE id = %s FOR UPDATE", [schedule.pk])


def test_a_schedule_that_is_being_started_keeps_no_other_waiting(process_env: dict[str, str]):
    slow, other = make_schedule(name="slow"), make_schedule(name="other")
    come_due(slow)
    command: list[Any] = [sys.executable, "-c", _STARTER, 'INSERT INTO "automation_automationrun"']
    with subprocess.Popen(command, env=process_env, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "there\n"
        come_due(other)

        starting.start_due()

        assert [kind for _, kind in outcomes(other)] == ["started"]
        assert outcomes(slow) == []
        starter.kill()
