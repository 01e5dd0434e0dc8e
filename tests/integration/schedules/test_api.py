"""Schedules over HTTP: what is created, what comes next, the verbs, and what each refusal says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.test import APIClient

from automation.models import AutomationRun, Schedule, ScheduleOccurrence, Site
from automation.schedules import starting
from pause_manager.models import ControlEvent
from tests.support.api_users import OPERATE, VIEW, client_of, make_user
from tests.support.factories import make_run, make_site, outputs, settle
from tests.support.schedules import FEW, come_due, make_schedule, outcomes

pytestmark = pytest.mark.django_db(transaction=True)

SCHEDULES = "/api/v1/schedules/"
WEEKDAYS = {
    "site": "blog",
    "name": "weekdays",
    "pipeline": "drill",
    "params": FEW,
    "kind": "weekly",
    "weekdays": "mon-fri",
    "at": "08:00",
    "time_zone": "Europe/Berlin",
}


@pytest.fixture
def site() -> Site:
    return make_site("blog")


@pytest.fixture
def api(site: Site) -> APIClient:
    return client_of(make_user("alice", site, VIEW, OPERATE))


def created(api: APIClient, **fields: Any) -> dict[str, Any]:
    answer = api.post(SCHEDULES, {**WEEKDAYS, **fields})
    assert answer.status_code == 201, answer.json()
    found: dict[str, Any] = answer.json()
    return found


def verb(api: APIClient, schedule: dict[str, Any], name: str, **body: Any) -> Any:
    return api.post(f"{SCHEDULES}{schedule['id']}/{name}/", body)


def test_a_schedule_is_said_in_words_with_its_next_five_times(api: APIClient):
    schedule = created(api)

    assert (schedule["in_words"], schedule["state"]) == ("weekdays 08:00, Europe/Berlin", "active")
    assert len(schedule["next"]) == 5
    assert schedule["next"][0]["due_at"] == schedule["next_due_at"]
    assert all(" 08:00 CE" in one["local"] and one["local"][:3] not in ("Sat", "Sun") for one in schedule["next"])
    [event] = ControlEvent.objects.filter(scope=f"schedule:{schedule['id']}")
    assert (event.action, event.actor, event.after["at"]) == ("schedule_created", "user:alice", "08:00:00")  # type: ignore[index]
    more = api.get(f"{SCHEDULES}{schedule['id']}/next/?count=20").json()
    assert len(more["next"]) == 20


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"at": None}, "Cannot save the schedule: at: expected a value, since the rule is weekly."),
        ({"cron": "* * * * *"}, "cron: expected none, since the rule is weekly (which takes at, weekdays)."),
        ({"time_zone": "Berlin"}, "time_zone: expected an IANA name such as Europe/Berlin, got: 'Berlin'."),
        ({"pipeline": "dril"}, "Cannot find pipeline 'dril': expected one of "),
        ({"params": {"item": 3}}, "Cannot use parameter 'item': pipeline drill takes "),
        ({"items": [{"n": 1}]}, "Cannot create a run of drill: it makes its own items and takes no input."),
        ({"pipeline": "numbers", "params": {}}, "Cannot create a run of numbers: it needs input items, got none."),
        ({"pipeline": "numbers", "params": {}, "items": []}, "items: expected a list of 1 to 10,000 objects."),
        (
            {"expires_at": "2020-01-01T00:00:00Z"},
            "expires_at: expected a time to come, got: 2020-01-01T00:00:00+00:00.",
        ),
        ({"name": "Weekdays!"}, "name: Expected small letters, digits, - and _."),
        ({"min_hours_between": -1}, "min_hours_between: Ensure this value is greater than or equal to 0."),
        ({"when": "now"}, "when: Unknown: expected one of "),
    ],
)
def test_what_is_wrong_with_a_schedule_is_named_and_nothing_created(
    api: APIClient, fields: dict[str, Any], sentence: str
):
    answer = api.post(SCHEDULES, {**WEEKDAYS, **fields})

    assert answer.status_code == 400
    assert sentence in answer.json()["message"]
    assert not Schedule.objects.exists()


def test_a_name_is_there_once_for_a_site(api: APIClient):
    created(api)

    answer = api.post(SCHEDULES, WEEKDAYS)

    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Cannot save the schedule: The site has a schedule of this name.",
    )


def test_a_schedule_can_be_changed_to_another_kind(api: APIClient):
    schedule = created(api)

    answer = api.patch(
        f"{SCHEDULES}{schedule['id']}/", {"kind": "interval", "every_minutes": 90, "reason": "more often"}
    )

    changed = answer.json()
    assert (changed["in_words"], changed["weekdays"], changed["at"]) == ("every 90 minutes", "", None)
    event = ControlEvent.objects.get(action="schedule_changed")
    assert event.reason == "more often"
    assert event.before == {"kind": "weekly", "at": "08:00:00", "weekdays": "mon-fri", "every_minutes": None}
    assert event.after == {"kind": "interval", "at": None, "weekdays": "", "every_minutes": 90}


def test_a_skipped_occurrence_does_not_start_and_the_one_after_it_does(api: APIClient):
    schedule = created(api, kind="cron", cron="0 * * * *", weekdays="", at=None)
    first = schedule["next"][0]["due_at"]

    after = verb(api, schedule, "skip", reason="the printer is away").json()

    assert after["next"][0] | {"local": ""} == {
        "due_at": first,
        "local": "",
        "outcome": "skipped",
        "reason": "the printer is away",
    }
    row = Schedule.objects.get()
    times = come_due(row, 2)
    ScheduleOccurrence.objects.update(due_at=times[0])
    starting.start_due()
    assert outcomes(row) == [(times[0], "skipped"), (times[1], "started")]


def test_a_skip_can_be_taken_back(api: APIClient):
    schedule = created(api)
    due_at = schedule["next"][2]["due_at"]
    verb(api, schedule, "skip", due_at=due_at)

    answer = verb(api, schedule, "resume", due_at=due_at)

    assert (answer.status_code, answer.json()["run"]) == (200, None)
    assert [one["outcome"] for one in answer.json()["schedule"]["next"]] == [None] * 5


def test_a_time_at_which_it_does_not_come_cannot_be_skipped(api: APIClient):
    schedule = created(api)

    for due_at in ("2020-01-01T08:00:00Z", "9999-12-31T08:00:00Z", "2030-01-01T08:00:30Z"):
        answer = verb(api, schedule, "skip", due_at=due_at)

        assert answer.status_code == 409
        assert "expected a time at which it will come, such as 20" in answer.json()["message"]


def test_a_paused_occurrence_starts_when_it_is_resumed(api: APIClient):
    schedule = created(api, kind="cron", cron="0 * * * *", weekdays="", at=None)
    due_at = schedule["next"][0]["due_at"]
    assert verb(api, schedule, "pause", due_at=due_at).status_code == 200
    row = Schedule.objects.get()
    [due] = come_due(row)
    ScheduleOccurrence.objects.update(due_at=due)
    starting.start_due()
    assert outcomes(row) == [(due, "paused")]

    answer = verb(api, schedule, "resume", due_at=due.isoformat())

    run = AutomationRun.objects.get(pk=answer.json()["run"]["id"])
    assert outcomes(row) == [(due, "started")]
    settle(run)
    assert len(outputs(run)) == 3
    again = verb(api, schedule, "resume", due_at=due.isoformat())
    assert (again.status_code, again.json()["code"]) == (409, "schedule_refused")


def test_a_schedule_is_paused_and_resumed_once(api: APIClient):
    schedule = created(api)

    paused = verb(api, schedule, "pause", reason="holidays").json()
    again = verb(api, schedule, "pause", reason="me too")
    resumed = verb(api, schedule, "resume").json()["schedule"]
    twice = verb(api, schedule, "resume")

    assert (paused["state"], paused["paused_by"], paused["pause_reason"]) == ("paused", "user:alice", "holidays")
    assert again.json()["message"] == "Cannot pause schedule blog/weekdays: it is paused by user:alice."
    assert (resumed["state"], resumed["paused_by"], resumed["pause_reason"]) == ("active", "", "")
    assert (twice.status_code, twice.json()["message"]) == (
        409,
        "Cannot resume schedule blog/weekdays: it is not paused.",
    )


@pytest.mark.req("A-24")
def test_run_now_starts_a_run_and_refuses_a_second_or_queues_it(api: APIClient):
    schedule = created(api)

    first = verb(api, schedule, "run_now", reason="the editor asks")
    second = verb(api, schedule, "run_now")
    third = verb(api, schedule, "run_now", queue=True)

    run = AutomationRun.objects.get(pk=first.json()["id"])
    assert (first.status_code, run.created_by) == (201, "user:alice")
    assert (second.status_code, second.json()["code"]) == (409, "site_busy")
    assert second.json()["message"].startswith(
        f"Cannot run schedule blog/weekdays now: site blog has the unfinished run {run.pk}."
    )
    assert third.status_code == 201
    assert AutomationRun.objects.count() == 2
    listed = api.get(f"{SCHEDULES}{schedule['id']}/occurrences/").json()["results"]
    assert [(one["outcome"], one["run"]) for one in listed] == [
        ("started", third.json()["id"]),
        ("started", str(run.pk)),
    ]
    assert listed[1]["reason"] == "run now: the editor asks"


def test_a_retried_request_runs_once(api: APIClient):
    schedule = created(api)
    url = f"{SCHEDULES}{schedule['id']}/run_now/"

    answers = [api.post(url, {}, headers={"Idempotency-Key": "k1"}).json()["id"] for _ in range(3)]

    assert len(set(answers)) == 1
    assert AutomationRun.objects.count() == 1


def test_schedules_of_others_are_not_found(api: APIClient, site: Site):
    theirs = make_schedule(make_site("theirs"), name="secret")
    make_schedule(site, name="ours")

    listed = api.get(SCHEDULES).json()["results"]

    assert [one["name"] for one in listed] == ["ours"]
    for method, path in (("get", ""), ("patch", ""), ("delete", ""), ("post", "run_now/"), ("get", "next/")):
        answer = getattr(api, method)(f"{SCHEDULES}{theirs.pk}/{path}")
        assert answer.status_code == 404, (method, path)
    assert api.post(SCHEDULES, {**WEEKDAYS, "site": "theirs"}).status_code == 404
    assert Schedule.objects.count() == 2


def test_a_deleted_schedule_leaves_its_runs(api: APIClient):
    schedule = created(api)
    verb(api, schedule, "run_now")

    assert api.delete(f"{SCHEDULES}{schedule['id']}/?reason=done").status_code == 204

    assert not Schedule.objects.exists()
    assert AutomationRun.objects.count() == 1
    assert ControlEvent.objects.get(action="schedule_deleted").reason == "done"


def test_the_last_occurrence_and_states_are_shown(api: APIClient, site: Site):
    run = make_run(site=site, start=False)
    row = make_schedule(site)
    come_due(row)
    starting.start_due()
    disabled = make_schedule(site, name="off", is_enabled=False)

    shown = {one["name"]: one for one in api.get(SCHEDULES).json()["results"]}

    assert shown["nightly"]["last"]["reason"] == f"site blog has the unfinished run {run.pk}"
    assert shown["off"]["state"] == "disabled"
    assert api.get(f"{SCHEDULES}?site=blog&pipeline=numbers").json()["results"] == []
    Site.objects.update(closed_at=Now())
    assert api.get(f"{SCHEDULES}{disabled.pk}/").json()["state"] == "site_closed"


def test_what_quotes_an_item_is_for_those_who_may_see_items(site: Site):
    row = make_schedule(site)
    Schedule.objects.filter(pk=row.pk).update(params={"items": "secret"})
    come_due(row)
    starting.start_due()
    blind = make_user("bob", site, VIEW)
    blind.user_permissions.remove(*blind.user_permissions.filter(codename="view_payloads"))

    told = client_of(blind).get(f"{SCHEDULES}{row.pk}/").json()["last"]["reason"]

    assert told == "No run could be created."


def test_a_list_costs_the_same_for_one_and_for_many(
    api: APIClient, site: Site, django_assert_num_queries: Any, django_assert_max_num_queries: Any
):
    for number in range(20):
        make_schedule(site, name=f"s-{number}")

    with django_assert_max_num_queries(8):
        assert len(api.get(SCHEDULES).json()["results"]) == 20


def test_a_pause_until_a_time_that_has_passed_is_refused(api: APIClient):
    schedule = created(api)

    answer = verb(api, schedule, "pause", until=(timezone.now() - timedelta(minutes=1)).isoformat())

    assert answer.status_code == 409
    assert "expected a time to come" in answer.json()["message"]
