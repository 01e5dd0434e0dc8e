"""Schedules with real beats and control workers that are killed: each occurrence starts one run, and clocks stand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest

from tests.chaos.fleet import REPOSITORY, Fleet, eventually

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.xdist_group("chaos"),
    pytest.mark.req("A-30"),
    pytest.mark.timeout(600),
]

SECOND, OTHER = "beat-2", "control-2"
MINUTES = 2
EACH = 4
TIMEOUT = 55

_MAKE = """
import json, sys
import django
django.setup()
from datetime import timedelta
from automation.models import Account, Lane, Schedule, Site
from automation.schedules import definitions
from pause_manager.actor import Actor
from pause_manager.models.clock import database_now

given = json.loads(sys.argv[1])
account, _ = Account.objects.get_or_create(name="Scheduled")
made = []
for name in given["sites"]:
    site = Site.objects.create(account=account, slug=name, name=name)
    schedule = definitions.create(site, {"name": "often", **given["fields"]}, actor=Actor("test", "test"))
    made.append(schedule.pk)
    if "missed_minutes" in given:
        now = database_now()
        first = now - timedelta(minutes=given["missed_minutes"])
        Schedule.objects.filter(pk=schedule.pk).update(anchor=first - timedelta(hours=1), next_due_at=first)
print(json.dumps(made))
"""
QUICK = {"items": 1, "seconds": 0.0}


def make(fleet: Fleet, sites: list[str], fields: dict[str, Any], **more: Any) -> list[int]:
    given = {"sites": sites, "fields": {"pipeline": "drill", "params": QUICK, **fields}, **more}
    command = [sys.executable, "-c", _MAKE, json.dumps(given)]
    done = subprocess.run(command, cwd=REPOSITORY, env=fleet.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made: list[int] = json.loads(done.stdout)
    return made


def outcomes(fleet: Fleet, schedule: int) -> list[str]:
    statement = "SELECT outcome FROM automation_scheduleoccurrence WHERE schedule_id = %s ORDER BY due_at"
    return [outcome for (outcome,) in fleet.query(statement, schedule)]


def strike(fleet: Fleet, chance: random.Random, until: float) -> int:
    """Kill beats and control workers at random, and start each again, until that time; how many died."""
    died = 0
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.1, 6))
        victim = chance.choice(["beat", SECOND, "control", OTHER])
        fleet.kill(victim)
        time.sleep(chance.uniform(0, 1))
        fleet.start(victim, wait=False)
        died += 1
    return died


def check_runs(fleet: Fleet, schedules: list[int]) -> None:
    """Each occurrence that has started has one run, no run is there without one, and all runs end."""
    unlike = """
        SELECT schedule.id, started.count, made.count
          FROM automation_schedule AS schedule JOIN automation_site AS site ON site.id = schedule.site_id
         CROSS JOIN LATERAL (SELECT count(DISTINCT run_id) FROM automation_scheduleoccurrence
                              WHERE schedule_id = schedule.id AND outcome = 'started') AS started
         CROSS JOIN LATERAL (SELECT count(*) FROM automation_automationrun WHERE site_id = site.id) AS made
         WHERE schedule.id = ANY(%s) AND started.count <> made.count
    """
    assert fleet.query(unlike, schedules) == []
    unfinished = """
        SELECT count(*) FROM automation_automationrun AS run JOIN automation_schedule AS schedule USING (site_id)
         WHERE schedule.id = ANY(%s) AND run.lifecycle <> 'completed'
    """
    assert eventually(lambda: fleet.query(unfinished, schedules) == [(0,)], 90, every=0.5)


@pytest.fixture
def two_of_each(fleet: Fleet) -> Fleet:
    fleet.start(SECOND)
    fleet.start(OTHER)
    return fleet


def test_after_an_outage_each_policy_holds_while_two_beats_are_killed(two_of_each: Fleet):
    fleet, chance = two_of_each, random.Random(30)
    for name in ("beat", SECOND, "control", OTHER):
        fleet.kill(name)
    made = {
        policy: make(
            fleet,
            [f"{policy}-{number}" for number in range(EACH)],
            {"kind": "interval", "every_minutes": 60, "catch_up": policy, "skip_if_active": False},
            missed_minutes=140,
        )
        for policy in ("all", "last", "none")
    }
    expected = {"all": ["started"] * 3, "last": ["missed", "missed", "started"], "none": ["missed"] * 3}

    for name in ("beat", SECOND, "control", OTHER):
        fleet.start(name, wait=False)
    died = strike(fleet, chance, time.monotonic() + 45)

    assert died > 5
    for policy, schedules in made.items():
        for schedule in schedules:
            assert eventually(partial(has_three, fleet, schedule), 60), (policy, schedule)
            assert outcomes(fleet, schedule) == expected[policy]
    check_runs(fleet, [pk for schedules in made.values() for pk in schedules])


def has_three(fleet: Fleet, schedule: int) -> bool:
    return len(outcomes(fleet, schedule)) == 3


def test_every_minute_comes_once_while_beats_and_control_workers_die(two_of_each: Fleet):
    fleet, chance = two_of_each, random.Random(31)
    sites = [f"minutely-{number}" for number in range(EACH)]
    fields = {"kind": "interval", "every_minutes": 1, "catch_up": "all", "skip_if_active": False}
    schedules = make(fleet, sites, fields)

    died = strike(fleet, chance, time.monotonic() + MINUTES * 60)

    assert died > 5 * MINUTES
    whole = """
        SELECT count(*) FROM automation_schedule AS schedule
         WHERE schedule.id = ANY(%s) AND schedule.next_due_at > clock_timestamp()
    """
    assert eventually(lambda: fleet.query(whole, schedules) == [(EACH,)], 60)
    fleet.execute("UPDATE automation_schedule SET is_enabled = false WHERE name = 'often'")
    gaps = """
        SELECT max(lead - due_at), min(lead - due_at), count(*) FROM (
            SELECT due_at, lead(due_at) OVER (PARTITION BY schedule_id ORDER BY due_at) AS lead
              FROM automation_scheduleoccurrence WHERE schedule_id = ANY(%s)) AS pairs
    """
    [(longest, shortest, count)] = fleet.query(gaps, schedules)
    assert (longest.total_seconds(), shortest.total_seconds()) == (60, 60)
    assert count >= EACH * MINUTES
    for schedule in schedules:
        assert set(outcomes(fleet, schedule)) == {"started"}
    check_runs(fleet, schedules)


@pytest.mark.req("W-52")
def test_held_time_counts_neither_into_time_outs_nor_into_the_expiry_of_a_schedule(fleet: Fleet):
    """With the real beat: nobody calls what it calls."""
    fields = {"kind": "interval", "every_minutes": 1, "skip_if_active": False}
    [expiring] = make(fleet, ["expiring"], fields)
    [patient] = make(fleet, ["patient"], {**fields, "params": {"items": 80, "seconds": 0.5}, "is_enabled": False})
    fleet.execute(
        f"UPDATE automation_schedule SET expires_at = next_due_at + interval '58 seconds' WHERE id = {expiring}"
    )
    shown = fleet.manage("schedule", "run-now", "patient/often", "--json")
    assert shown.returncode == 0, shown.stderr
    [(run,)] = fleet.query("SELECT run_id FROM automation_scheduleoccurrence WHERE schedule_id = %s", patient)
    fleet.query("UPDATE automation_automationrun SET timeout_seconds = %s WHERE id = %s RETURNING 1", TIMEOUT, run)

    held = fleet.manage("fleet", "pause", "--mode", "quiesce", "--reason", "the farm moves")
    assert held.returncode == 0, held.stderr
    time.sleep(TIMEOUT - 5)
    resumed = fleet.manage("fleet", "resume", "--force", "--reason", "it has moved")
    assert resumed.returncode == 0, resumed.stderr

    ended = "SELECT lifecycle FROM automation_automationrun WHERE id = %s AND finished_at IS NOT NULL"
    assert eventually(lambda: fleet.query(ended, run), 90) == [("completed",)]
    took = "SELECT extract(epoch FROM finished_at - started_at) FROM automation_automationrun WHERE id = %s"
    assert fleet.query(took, run)[0][0] > TIMEOUT, "by the clock it had no time left"
    assert eventually(lambda: outcomes(fleet, expiring)[1:2], 120) == ["started"], "the one after its expiry"
