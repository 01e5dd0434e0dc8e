"""Schedules in the admin: the same rules, the same events, and only those of the user's accounts."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from automation.models import AutomationRun, Membership, Schedule, ScheduleOccurrence, Site
from automation.schedules import definitions
from pause_manager.models import ControlEvent
from tests.support.factories import OPERATOR, make_site
from tests.support.schedules import make_schedule

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "admin:automation_schedule_changelist"
EMPTY = {
    "at": "",
    "weekdays": "",
    "day_of_month": "",
    "cron": "",
    "every_minutes": "",
    "items": "",
    "min_hours_between": "",
    "expires_at_0": "",
    "expires_at_1": "",
}
NIGHTLY = {
    **EMPTY,
    "name": "nightly",
    "pipeline": "drill",
    "kind": "daily",
    "at": "03:00",
    "time_zone": "Europe/Berlin",
    "params": '{"items": 3}',
    "priority": "2",
    "is_enabled": "on",
    "catch_up": "last",
    "skip_if_active": "on",
}


@pytest.fixture
def site() -> Site:
    return make_site("blog")


@pytest.fixture
def client(site: Site) -> Client:
    user = User.objects.create_user("olga", is_staff=True)
    names = [f"{verb}_schedule" for verb in ("view", "add", "change", "delete")]
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*names, "operate_automationrun", "view_scheduleoccurrence"])
    )
    Membership.objects.create(account=site.account, user=user)
    found = Client()
    found.force_login(user)
    return found


def errors(answer: Any) -> str:
    form = answer.context["adminform"].form
    return str(form.errors.as_text())


def act(client: Client, action: str, *schedules: Schedule, **extra: str) -> list[str]:
    picked = {"action": action, "_selected_action": [str(one.pk) for one in schedules], **extra}
    answer = client.post(reverse(LIST), picked, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def test_a_schedule_is_added_and_changed_with_one_event_each(client: Client, site: Site):
    added = client.post(reverse("admin:automation_schedule_add"), {**NIGHTLY, "site": site.pk})

    assert added.status_code == 302, errors(added)
    schedule = Schedule.objects.get()
    assert (schedule.rule.words(), schedule.priority, schedule.created_by) == (
        "every day 03:00, Europe/Berlin",
        2,
        "user:olga",
    )
    assert schedule.next_due_at is not None
    url = reverse("admin:automation_schedule_change", args=[schedule.pk])
    assert "03:00 CE" in client.get(url).content.decode()
    changed = client.post(url, {**NIGHTLY, "kind": "weekly", "weekdays": "sat"})
    assert changed.status_code == 302, errors(changed)
    schedule.refresh_from_db()
    assert schedule.next_due_at.isoweekday() in (5, 6)
    told = ControlEvent.objects.filter(scope=schedule.scope).order_by("pk").values_list("action", "channel")
    assert list(told) == [("schedule_created", "admin"), ("schedule_changed", "admin")]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"at": ""}, "expected a value, since the rule is daily."),
        ({"time_zone": "Berlin"}, "expected an IANA name such as Europe/Berlin"),
        ({"params": '{"item": 3}'}, "Cannot use parameter &#x27;item&#x27;|Cannot use parameter 'item'"),
        ({"pipeline": "numbers", "params": ""}, "it needs input items, got none"),
    ],
)
def test_what_is_wrong_is_told_in_the_form(client: Client, site: Site, fields: dict[str, str], sentence: str):
    answer = client.post(reverse("admin:automation_schedule_add"), {**NIGHTLY, "site": site.pk, **fields})

    assert answer.status_code == 200
    assert any(one in errors(answer) for one in sentence.split("|")), errors(answer)
    assert not Schedule.objects.exists()


def test_actions_tell_both_halves(client: Client, site: Site):
    one, other = make_schedule(site, "one"), make_schedule(site, "other")
    definitions.pause(other.pk, actor=OPERATOR)

    assert act(client, "pause_selected", one, other, reason="holidays") == [
        "Paused blog/one.",
        "Cannot pause schedule blog/other: it is paused by user:olga.",
    ]
    assert act(client, "resume_selected", one) == ["Resumed blog/one."]
    assert act(client, "skip_selected", one) == ["Skipped the next occurrence of blog/one."]
    assert act(client, "run_selected_now", one) == ["Started a run of blog/one."]
    assert AutomationRun.objects.count() == 1
    assert ScheduleOccurrence.objects.count() == 2
    listed = client.get(reverse("admin:automation_scheduleoccurrence_changelist"))
    assert listed.status_code == 200


def test_a_schedule_is_deleted_with_its_occurrences(client: Client, site: Site):
    schedule = make_schedule(site)
    definitions.skip(schedule.pk, actor=OPERATOR)

    answer = client.post(reverse("admin:automation_schedule_delete", args=[schedule.pk]), {"post": "yes"})

    assert answer.status_code == 302
    assert not Schedule.objects.exists()
    assert not ScheduleOccurrence.objects.exists()
    assert ControlEvent.objects.filter(action="schedule_deleted", channel="admin").count() == 1


def test_schedules_of_others_are_not_there(client: Client):
    theirs = make_schedule(make_site("theirs"), "secret")

    assert "secret" not in client.get(reverse(LIST)).content.decode()
    assert client.get(reverse("admin:automation_schedule_change", args=[theirs.pk])).status_code == 302
