"""Pause windows over HTTP, from the shell and in the admin: what is created, refused, and shown to whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from pause_manager.models import ControlEvent, Hold, PauseWindow
from tests.support.api_users import VIEW, client_of, make_user
from tests.support.factories import make_site
from tests.support.windows import clock_in, make_window, open_window

pytestmark = pytest.mark.django_db(transaction=True)

WINDOWS = "/api/v1/pause-windows/"
NIGHTS = {
    "name": "nights",
    "scope": "queue:gpu",
    "kind": "weekly",
    "weekdays": "mon-fri",
    "at": "22:00",
    "time_zone": "Europe/Berlin",
    "duration_minutes": 480,
    "reason": "the studio renders",
}


@pytest.fixture(autouse=True)
def _no_window_is_left() -> Iterator[None]:
    yield
    PauseWindow.objects.all().delete()


@pytest.fixture
def boss() -> APIClient:
    return client_of(make_user("olga", None, "operate_fleet"))


def test_a_window_from_its_creation_to_its_end(boss: APIClient):
    later = clock_in(12 * 60).strftime("%H:%M")  # closed now, whatever the hour: it is open for 8 h
    created = boss.post(WINDOWS, {**NIGHTS, "at": later})
    assert created.status_code == 201, created.json()
    assert created.json()["in_words"] == f"weekdays {later}, Europe/Berlin, for 8 h 00 min"
    now = {"kind": "daily", "at": clock_in(-5).strftime("%H:%M"), "time_zone": "UTC", "reason": "the farm moves"}

    opened = boss.patch(f"{WINDOWS}nights/", now).json()
    held = Hold.objects.active().get()
    skipped = boss.post(f"{WINDOWS}nights/skip/", {"reason": "not today"}).json()
    deleted = boss.delete(f"{WINDOWS}nights/?reason=done")

    assert (opened["weekdays"], opened["next"]["is_open"]) == ("", True)
    assert (held.scope, held.kind, held.reason) == ("queue:gpu", "window", "the farm moves")
    assert (skipped["next"]["is_open"], skipped["skipped_until"]) == (False, opened["next"]["ends_at"])
    assert deleted.status_code == 204
    assert not Hold.objects.active().exists()
    told = ControlEvent.objects.filter(scope="queue:gpu").order_by("pk").values_list("action", "actor")
    assert list(told) == [
        ("window_created", "user:olga"),
        ("window_changed", "user:olga"),
        ("hold_placed", "window:nights"),
        ("window_skipped", "user:olga"),
        ("hold_released", "system"),
        ("window_deleted", "user:olga"),
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"scope": "gpu"}, "scope: expected fleet, queue:x, pipeline:x, lane:x, node:x or resource:x, got: 'gpu'."),
        ({"scope": "run:1"}, "scope: expected fleet, queue:x, "),
        ({"at": None}, "at: expected a value, since the rule is weekly."),
        ({"time_zone": "Mars"}, "time_zone: expected an IANA name such as Europe/Berlin, got: 'Mars'."),
        ({"name": "Late night"}, "name: Expected small letters, digits, - and _."),
        ({"duration_minutes": 20_000}, "duration_minutes: Ensure this value is less than or equal to 10080."),
        ({"reason": ""}, "reason: This field may not be blank."),
    ],
)
def test_what_is_wrong_with_a_window_is_named(boss: APIClient, fields: dict[str, Any], sentence: str):
    answer = boss.post(WINDOWS, {**NIGHTS, **fields})

    assert answer.status_code == 400
    assert sentence in answer.json()["message"]
    assert not PauseWindow.objects.exists()


def test_a_name_is_there_once(boss: APIClient):
    boss.post(WINDOWS, NIGHTS)

    answer = boss.post(WINDOWS, NIGHTS)

    assert (answer.status_code, "already exists" in answer.json()["message"]) == (400, True)


def test_windows_of_lanes_of_others_are_not_shown():
    ours, theirs = make_site("ours"), make_site("theirs")
    make_window("lane:ours", name="of-ours")
    make_window(f"lane:{theirs.slug}", name="of-theirs")
    make_window("queue:gpu", name="of-all")
    api = client_of(make_user("victor", ours, VIEW))

    assert [one["name"] for one in api.get(WINDOWS).json()] == ["of-all", "of-ours"]
    assert api.get(f"{WINDOWS}of-theirs/").status_code == 404
    assert api.post(WINDOWS, NIGHTS).status_code == 403


def test_the_command(shell):
    nights = ("--at", "22:00", "--until", "06:00", "--time-zone", "Europe/Berlin", "--reason", "the studio renders")
    added = shell("window", "add", "nights", "queue:gpu", *nights)
    changed = shell("window", "change", "nights", "--mode", "quiesce", "--weekdays", "mon-fri", "--at", "21:30")
    listed = shell("window", "list")
    skipped = shell("window", "skip", "nights")
    deleted = shell("window", "delete", "nights", "--json")

    assert added.code == 0, added.err
    assert re.fullmatch(
        r"nights: queue:gpu \(drain\), every day 22:00, Europe/Berlin, for 8 h 00 min; "
        r"(open until|next from) .*: the studio renders\n",
        added.out,
    )
    assert "queue:gpu (quiesce), weekdays 21:30, Europe/Berlin, for 8 h 00 min" in changed.out
    assert listed.out == changed.out
    assert re.fullmatch(r"Skipped nights from .* UTC to .* UTC\.\n", skipped.out)
    assert deleted.objects == [{"window": "nights", "deleted": True}]
    assert not PauseWindow.objects.exists()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("add", "x", "queue:gpu", "--for", "8h", "--reason", "x"), 2, "kind: "),
        (("add", "x", "gpu", "--at", "22:00", "--for", "8h", "--reason", "x"), 2, "scope: expected fleet, queue:x"),
        (("add", "x", "queue:gpu", "--at", "22:00", "--reason", "x"), 2, "--until --for"),
        (
            ("add", "x", "queue:gpu", "--cron", "0 22 * * *", "--until", "06:00", "--reason", "x"),
            2,
            "expected --at with",
        ),
        (("skip", "x"), 4, "Cannot find pause window 'x': it does not exist."),
        (("change", "there"), 2, "expected something to change"),
    ],
)
def test_what_is_wrong_is_told(shell, words: tuple[str, ...], code: int, sentence: str):
    make_window("queue:there", name="there")

    ended = shell("window", *words)

    assert (ended.code, sentence in ended.err) == (code, True), ended.err
    assert PauseWindow.objects.count() == 1


def test_the_admin_is_for_superusers_and_keeps_the_rules():
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    empty = {"day_of_month": "", "cron": "", "every_minutes": ""}
    form = {**empty, **NIGHTS, "mode": "drain", "is_enabled": "on"}
    add = reverse("admin:pause_manager_pausewindow_add")

    refused = client.post(add, {**form, "scope": "gpu"})
    assert "Expected the scope fleet, queue:x" in refused.content.decode()
    assert not PauseWindow.objects.exists()
    assert client.post(add, form).status_code == 302
    window = PauseWindow.objects.get()
    change = reverse("admin:pause_manager_pausewindow_change", args=[window.pk])
    assert client.post(change, {**form, "mode": "quiesce"}).status_code == 302
    listed = reverse("admin:pause_manager_pausewindow_changelist")
    told = client.post(listed, {"action": "skip_selected", "_selected_action": [window.pk]}, follow=True)
    assert str(list(told.context["messages"])[-1]).startswith("Skipped nights from ")
    assert client.post(reverse("admin:pause_manager_pausewindow_delete", args=[window.pk]), {"post": "yes"})
    assert not PauseWindow.objects.exists()
    actions = ControlEvent.objects.filter(channel="admin").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["window_created", "window_changed", "window_skipped", "window_deleted"]


def test_a_hold_of_a_window_is_not_released_as_an_operators(shell):
    open_window("queue:gpu")

    ended = shell("hold", "release", "queue:gpu")

    assert "not held: queue:gpu" in ended.out
    assert Hold.objects.active().count() == 1
