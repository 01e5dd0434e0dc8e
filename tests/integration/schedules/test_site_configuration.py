"""A site's configuration, overview and estimate, as callers know them who have one schedule for each site."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from automation.models import AutomationRun, Schedule, Site
from automation.schedules import starting
from tests.support.api_users import AUTOMATION, OPERATE, VIEW, client_of, make_user
from tests.support.factories import drain, make_run, make_site, settle
from tests.support.schedules import FEW, come_due

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.req("A-37")]

NIGHTLY = {"pipeline": "drill", "params": FEW, "frequency": "daily", "scheduled_time": "02:30"}


@pytest.fixture
def site() -> Site:
    return make_site("blog")


@pytest.fixture
def api(site: Site) -> APIClient:
    return client_of(make_user("alice", site, VIEW, OPERATE))


def got(api: APIClient, name: str, query: str = "") -> dict[str, Any]:
    answer = api.get(f"{AUTOMATION}{name}/?site_id=blog{query}")
    assert answer.status_code == 200, answer.json()
    found: dict[str, Any] = answer.json()
    return found


def put(api: APIClient, **fields: Any) -> Any:
    return api.put(f"{AUTOMATION}config/?site_id=blog", {**NIGHTLY, **fields})


def test_a_site_without_a_configuration_says_so(api: APIClient):
    told = got(api, "config")

    assert (told["site_id"], told["is_enabled"], told["frequency"], told["next_run_at"]) == ("blog", False, None, None)


def test_a_configuration_is_a_schedule_that_starts_runs(api: APIClient):
    told = put(api, time_zone="Europe/Berlin").json()

    schedule = Schedule.objects.get()
    assert told["in_words"] == "every day 02:30, Europe/Berlin"
    assert (told["schedule_id"], told["scheduled_time"], schedule.name) == (schedule.pk, "02:30", "automation")
    come_due(schedule)
    starting.start_due()
    run = AutomationRun.objects.get()
    assert got(api, "config")["last_run_at"] is not None
    settle(run)


def test_a_put_replaces_all_of_it(api: APIClient):
    put(api, priority=1, catch_up="all")

    told = put(api, frequency="cron", cron="0 8 * * 1-5", scheduled_time=None, is_enabled=False).json()

    assert (told["frequency"], told["scheduled_time"], told["in_words"]) == ("cron", None, "weekdays 08:00, UTC")
    assert (told["priority"], told["catch_up"], told["is_enabled"], told["next_run_at"]) == (3, "last", False, None)
    assert Schedule.objects.count() == 1


def test_what_is_wrong_is_named_as_the_caller_knows_it(api: APIClient):
    answer = put(api, scheduled_time=None)

    assert answer.status_code == 400
    assert answer.json()["message"] == (
        "Cannot save the schedule: scheduled_time: expected a value, since the rule is daily."
    )
    assert "batch_size" in put(api, batch_size=3).json()["message"], "it belongs into the pacing"


def test_the_overview_shows_the_stages_before_and_during_a_run(api: APIClient, site: Site):
    assert got(api, "pipeline_overview") == {"pipeline": None, "run_id": None, "status": None, "stages": []}
    put(api)
    [before] = got(api, "pipeline_overview")["stages"]
    run = make_run(site=site, items=4)

    during = got(api, "pipeline_overview")

    assert (before["slug"], before["total_items"]) == ("work", 0)
    assert (during["run_id"], during["status"], during["pipeline"]) == (str(run.pk), "running", "numbers")
    assert [(one["slug"], one["remaining_count"]) for one in during["stages"]] == [("echo", 4)]
    drain(run)
    [after] = got(api, "pipeline_overview")["stages"]
    assert (after["processed_items"], after["percentage"]) == (4, 100.0)


def test_an_estimate_is_the_rate_of_earlier_runs_times_the_items(api: APIClient, site: Site):
    run = settle(make_run(site=site, items=10))
    assert run.finished_at is not None
    AutomationRun.objects.filter(pk=run.pk).update(started_at=run.finished_at - timedelta(seconds=20))
    run.stages.filter(slug="echo").update(started_at=run.finished_at - timedelta(seconds=10))

    told = got(api, "estimate", "&pipeline=numbers&items=30")

    assert (told["measured_runs"], told["seconds_per_item"], told["seconds"]) == (1, 2.0, 60.0)
    [stage] = told["stages"]
    assert stage["slug"] == "echo"
    assert stage["seconds"] == pytest.approx(30, abs=1)
    assert got(api, "estimate", "&pipeline=numbers")["items"] == 10


def test_what_was_never_measured_is_not_made_up(api: APIClient, site: Site):
    settle(make_run(site=make_site("theirs"), items=10))
    put(api)

    told = got(api, "estimate", "&items=30")

    assert {name: told[name] for name in told if name not in ("needed", "balance", "sufficient")} == {
        "pipeline": "drill",
        "items": 30,
        "measured_runs": 0,
        "seconds_per_item": None,
        "seconds": None,
        "stages": [],
    }
    assert got(api, "estimate", "&pipeline=numbers&items=5")["measured_runs"] == 0


def test_a_site_of_others_is_not_found(api: APIClient):
    make_site("theirs")

    for name in ("config", "pipeline_overview", "estimate"):
        assert api.get(f"{AUTOMATION}{name}/?site_id=theirs").status_code == 404
    assert api.put(f"{AUTOMATION}config/?site_id=theirs", NIGHTLY).status_code == 404
    assert not Schedule.objects.exists()
