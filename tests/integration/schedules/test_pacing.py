"""Pacing through every door: schedules, the configuration of a site, a start by hand."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from rest_framework.test import APIClient

from automation.models import AutomationRun, Lifecycle, Schedule, Site
from automation.pipeline import definition
from automation.schedules import starting
from tests.support.api_users import AUTOMATION, OPERATE, RUNS, VIEW, client_of, make_user
from tests.support.factories import drain, make_site, outputs
from tests.support.paced_runs import pass_time
from tests.support.schedules import come_due, make_schedule

pytestmark = pytest.mark.django_db(transaction=True)

V1 = "/api/v1/"
PACING = {"batch_size": 2, "batch_delay_seconds": 30, "stages": {"work": {"max_items": 3}}}


@pytest.fixture
def site() -> Site:
    return make_site("blog")


@pytest.fixture
def api(site: Site) -> APIClient:
    return client_of(make_user("alice", site, VIEW, OPERATE))


def check_effect(run: AutomationRun) -> None:
    """The run does two items, waits, does one more, and leaves the rest out."""
    work = run.stages.get(slug="work")
    assert definition.of(work).batch_delay == 30
    drain(run)
    assert len(outputs(run, "work")) == 2
    pass_time(run, 31)
    assert drain(run).lifecycle == Lifecycle.RUNNING, "nobody has sent a message"
    work.refresh_from_db()
    assert (work.total_items, work.left_out) == (3, 2)


def test_a_schedule_gives_its_pacing_to_its_runs():
    schedule = make_schedule(params={"items": 5, "seconds": 0.0}, pacing=PACING)
    come_due(schedule)

    starting.start_due()

    run = AutomationRun.objects.get()
    assert run.pacing == PACING
    check_effect(run)


@pytest.mark.req("A-37")
def test_the_configuration_of_a_site_has_a_pacing(api: APIClient):
    given = {
        "pipeline": "drill",
        "params": {"items": 5, "seconds": 0.0},
        "frequency": "daily",
        "scheduled_time": "02:30",
    }

    told = api.put(f"{AUTOMATION}config/?site_id=blog", {**given, "pacing": PACING}).json()

    assert told["pacing"] == PACING
    assert api.get(f"{AUTOMATION}config/?site_id=blog").json()["pacing"] == PACING
    come_due(Schedule.objects.get())
    starting.start_due()
    check_effect(AutomationRun.objects.get())
    wrong = api.put(f"{AUTOMATION}config/?site_id=blog", {**given, "pacing": {"batch_size": 0}})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "pacing_invalid")
    assert wrong.json()["message"] == "Cannot use batch_size: expected a whole number from 1 to 10,000, got: 0."
    assert api.put(f"{AUTOMATION}config/?site_id=blog", given).json()["pacing"] == {}, (
        "what is left out has its default"
    )


def test_a_schedule_is_paced_and_changed_over_the_api(api: APIClient):
    rule = {"kind": "daily", "at": "08:00", "site": "blog", "name": "nightly", "pipeline": "drill"}
    made = api.post(f"{V1}schedules/", {**rule, "pacing": PACING})
    assert (made.status_code, made.json()["pacing"]) == (201, PACING)
    where = f"{V1}schedules/{made.json()['id']}/"

    assert api.patch(where, {"priority": 1}).json()["pacing"] == PACING
    assert api.patch(where, {"pacing": {"max_items": 9}}).json()["pacing"] == {"max_items": 9}
    refused = api.patch(where, {"pacing": {"stages": {"sum": {}}}})

    assert (refused.status_code, refused.json()["message"]) == (
        400,
        "Cannot use the pacing of stage 'sum': expected one of work.",
    )
    assert Schedule.objects.get().pacing == {"max_items": 9}


def test_a_run_is_paced_over_the_api_and_its_wait_is_told(api: APIClient):
    body: dict[str, Any] = {"site": "blog", "pipeline": "drill", "params": {"items": 5, "seconds": 0.0}}

    made = api.post(RUNS, {**body, "pacing": PACING})

    assert (made.status_code, made.json()["pacing"]) == (201, PACING)
    run = AutomationRun.objects.get()
    drain(run)
    told = api.get(f"{RUNS}{run.pk}/explain/").json()
    assert [reason["code"] for reason in told["reasons"] if reason["code"] != "no_worker"] == ["delay", "item_limit"]
    assert told["expected_start"] == told["reasons"][0]["figures"]["starts_at"].replace("+00:00", "Z")
    assert api.get(f"{RUNS}{run.pk}/").json()["status"] == "waiting"
    assert [one["id"] for one in api.get(f"{RUNS}?status=waiting").json()["results"]] == [str(run.pk)]
    check_effect(run)


def test_a_form_paces_a_run(api: APIClient):
    file = BytesIO(b'[{"n": 1}, {"n": 2}, {"n": 3}]')
    file.name = "items.json"
    fields = {"site": "blog", "pipeline": "numbers", "input": file, "pacing": json.dumps({"max_items": 2})}

    made = api.post(RUNS, fields, format="multipart")

    assert (made.status_code, made.json()["pacing"]) == (201, {"max_items": 2})
    run = drain(AutomationRun.objects.get())
    assert (run.lifecycle, len(outputs(run))) == (Lifecycle.COMPLETED, 2)


def test_commands_pace_runs_and_schedules(site: Site, shell):
    paces = ("--pace", "batch_size=2", "--pace", "batch_delay_seconds=30", "--pace", "work.max_items=3")
    params = ("--param", "items=5", "--param", "seconds=0")
    started = shell("run_pipeline", "drill", "--site", "blog", *params, *paces)
    added = shell("schedule", "add", "blog/paced", "drill", "--every", "2h", *paces)
    cleared = shell("schedule", "change", "blog/paced", "--pace", "none", "--json")
    wrong = shell("run_pipeline", "drill", "--site", "blog", "--pace", "batch_size=many")

    assert (started.code, added.code, wrong.code) == (0, 0, 2), (started.err, added.err)
    assert "  pacing batch_size=2, batch_delay_seconds=30, work.max_items=3" in added.out.splitlines()
    assert cleared.objects[0]["pacing"] == {}
    assert "batch_size: expected a whole number from 1 to 10,000, got: 'many'" in wrong.err
    run = AutomationRun.objects.get()
    explained = shell("explain_run", str(run.pk))
    check_effect(run)
    assert "Stage work does 3 of 5 items, its limit in this run; 2 are left out." in explained.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["batch_size"], "Cannot use the pacing: expected [STAGE.]NAME=VALUE, got: 'batch_size'."),
        (["batch_size=1", "batch_size=2"], "Cannot use the pacing: expected each name once, got 'batch_size' twice."),
        (["pace=1"], "Cannot use pace as pacing: expected one of batch_size, batch_delay_seconds"),
    ],
)
def test_options_that_cannot_be_read_are_named(site: Site, shell, options: list[str], told: str):
    given = [word for option in options for word in ("--pace", option)]

    refused = shell("run_pipeline", "drill", "--site", "blog", *given)

    assert refused.code == 2
    assert told in refused.err
    assert not AutomationRun.objects.exists()
