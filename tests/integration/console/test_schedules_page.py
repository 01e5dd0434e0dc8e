"""The page of schedules and its form: what comes when, what came, and what an operator changes."""

from __future__ import annotations

import re
from datetime import time

import pytest
from django.test import Client

from automation.models import AutomationRun, Schedule, ScheduleOccurrence, Site
from automation.schedules import starting
from pause_manager.models import ControlEvent
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import make_site
from tests.support.schedules import come_due, make_schedule, outcomes

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/schedules/"
FORM = {
    "pipeline": "drill",
    "name": "nightly",
    "site": "ours",
    "kind": "daily",
    "at": "02:00",
    "time_zone": "Europe/Berlin",
    "priority": "2",
    "catch_up": "last",
    "is_enabled": "on",
    "skip_if_active": "on",
    "weekdays": "mon-fri",
    "cron": "0 2 * * *",
    "every_minutes": "60",
    "day_of_month": "1",
    "param-items": "3",
    "param-seconds": "0",
}
"""As a browser sends it: the fields of other kinds of rule too."""


@pytest.fixture
def site() -> Site:
    return make_site("ours")


@pytest.fixture
def client(site: Site) -> Client:
    return signed_in(site, "olga", VIEW, OPERATE)


def signed_in(site: Site, name: str, *permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(name, site, *permissions))
    return client


def test_a_schedule_shows_its_words_next_times_and_what_came_of_the_last(client: Client, site: Site) -> None:
    schedule = make_schedule(site, kind="daily", at=time(2, 0), time_zone="Europe/Berlin")
    hourly = make_schedule(site, "hourly")
    come_due(hourly)
    starting.start_due()

    page = client.get(URL).content.decode()

    assert "every day 02:00, Europe/Berlin" in page
    part = page.partition(f'id="schedule-{schedule.pk}"')[2].partition("</section>")[0]
    assert len(re.findall(r"02:00 CES?T</span>", part)) == 5
    run = AutomationRun.objects.get()
    assert f'href="/runs/{run.pk}/"' in page
    assert re.search(r'<rect class="is-(running|completed)"', page)


def test_the_form_of_a_schedule_has_its_pacing(client: Client, site: Site) -> None:
    made = client.post(f"{URL}new/", FORM | {"pacing": "max_items=2"})

    schedule = Schedule.objects.get()
    assert (made.status_code, schedule.pacing) == (302, {"max_items": 2})
    edit = f"{URL}{schedule.pk}/"
    assert 'name="pacing" value="max_items=2"' in client.get(edit).content.decode()
    assert client.post(edit, FORM | {"pacing": ""}).status_code == 302
    schedule.refresh_from_db()
    assert schedule.pacing == {}


def test_skip_pause_resume_run_now_and_delete(client: Client, site: Site) -> None:
    schedule = make_schedule(site)
    one = {"schedule": str(schedule.pk)}

    skipped = client.post(URL, {"do": "skip", **one, "reason": "backup"}).json()["done"]
    assert skipped.startswith("Schedule ours/nightly skips ")
    [(due_at, outcome)] = outcomes(schedule)
    assert outcome == "skipped"
    assert client.post(URL, {"do": "unskip", **one, "due_at": due_at.isoformat()}).status_code == 200
    assert outcomes(schedule) == []

    assert client.post(URL, {"do": "pause", **one, "reason": "holiday"}).status_code == 200
    assert "by olga: holiday" in client.get(URL).content.decode()
    again = client.post(URL, {"do": "pause", **one})
    assert again.status_code == 409
    assert again.json()["refused"] == "Cannot pause schedule ours/nightly: it is paused by user:olga."
    assert client.post(URL, {"do": "resume", **one}).status_code == 200

    answer = client.post(URL, {"do": "run", **one}).json()
    run = AutomationRun.objects.get()
    assert answer["location"] == f"/runs/{run.pk}/"
    assert run.created_by == "user:olga"
    assert ControlEvent.objects.filter(action="create", channel="console", scope=run.scope).exists()

    assert client.post(URL, {"do": "delete", **one}).status_code == 200
    assert not Schedule.objects.exists()
    assert AutomationRun.objects.exists()


def test_the_form_previews_and_creates(client: Client, site: Site) -> None:
    assert "Europe/Berlin" in client.get(f"{URL}new/", {"pipeline": "drill"}).content.decode()

    shown = client.post(f"{URL}preview/", FORM).content.decode()
    assert "every day 02:00, Europe/Berlin" in shown
    assert len(re.findall(r"<li>\w{3} \d{4}-\d\d-\d\d 02:00 CES?T ", shown)) == 5
    assert not Schedule.objects.exists()

    answer = client.post(f"{URL}new/", FORM)
    assert answer.status_code == 302, answer.content.decode()
    schedule = Schedule.objects.get()
    assert (schedule.name, schedule.kind, schedule.cron, schedule.priority) == ("nightly", "daily", "", 2)
    assert schedule.params["items"] == 3
    assert schedule.created_by == "user:olga"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "cron", "cron": "61 * * * *"}, "cron"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: expected an IANA name such as Europe/Berlin"),
        ({"name": "No Such Name"}, "Expected small letters, digits, - and _."),
        ({"param-items": "none"}, "Cannot use parameter &#x27;items&#x27;: expected a whole number"),
        ({"site": "elsewhere"}, "the site does not exist, or you do not have access to it"),
        ({"expires_at": "soon"}, "expires_at: expected a date and a time"),
        ({"kind": "interval", "every_minutes": "often"}, "every_minutes: expected a whole number"),
    ],
)
def test_a_refusal_is_said_and_the_form_keeps_what_was_typed(
    client: Client, site: Site, wrong: dict[str, str], sentence: str
) -> None:
    given = {**FORM, "name": "kept-name", **wrong}

    answer = client.post(f"{URL}new/", given)

    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert f'value="{given["name"]}"' in page
    assert not Schedule.objects.exists()


def test_a_schedule_is_changed_and_its_input_stays(client: Client, site: Site) -> None:
    schedule = make_schedule(site, pipeline="numbers", items=[{"n": 1}, {"n": 2}], params={})
    url = f"{URL}{schedule.pk}/"
    page = client.get(url).content.decode()
    assert "It has 2 items; left empty, these stay." in page
    assert 'value="0 * * * *"' in page

    given = {**FORM, "pipeline": "numbers", "name": "weekly", "kind": "weekly", "reason": "less often"}
    given = {name: value for name, value in given.items() if not name.startswith("param-")}
    answer = client.post(url, given)

    assert answer.status_code == 302, answer.content.decode()
    schedule.refresh_from_db()
    assert (schedule.name, schedule.kind, schedule.weekdays, schedule.cron) == ("weekly", "weekly", "mon-fri", "")
    assert schedule.items == [{"n": 1}, {"n": 2}]
    assert ControlEvent.objects.get(action="schedule_changed").reason == "less often"


def test_viewers_may_look_and_strangers_find_nothing(client: Client, site: Site) -> None:
    schedule = make_schedule(site)
    viewer = signed_in(site, "vera", VIEW)
    stranger = signed_in(make_site("theirs"), "sten", VIEW, OPERATE)

    page = viewer.get(URL).content.decode()
    assert "nightly" in page
    assert "data-ask" not in page.partition('id="content"')[2]
    assert viewer.post(URL, {"do": "pause", "schedule": str(schedule.pk)}).status_code == 403
    assert "nightly" not in stranger.get(URL).content.decode()
    answer = stranger.post(URL, {"do": "pause", "schedule": str(schedule.pk)})
    assert answer.status_code == 409
    assert "you do not have access to it" in answer.json()["refused"]
    assert stranger.get(f"{URL}{schedule.pk}/").status_code == 404
    assert Schedule.objects.get().paused_at is None


def test_why_no_run_was_made_is_told_to_those_who_see_payloads(client: Client, site: Site) -> None:
    schedule = make_schedule(site)
    [due_at] = come_due(schedule)
    ScheduleOccurrence.objects.create(
        schedule=schedule, due_at=due_at, outcome="failed", reason="InvalidInput: the secret keyword", actor="system"
    )
    blind = Client()
    user = make_user("bo", site, VIEW)
    user.user_permissions.remove(*user.user_permissions.filter(codename="view_payloads"))
    blind.force_login(user)

    assert "the secret keyword" in client.get(URL).content.decode()
    assert "the secret keyword" not in blind.get(URL).content.decode()
