"""The page of pause windows: when what is held, and what an operator of the fleet changes."""

from __future__ import annotations

import pytest
from django.test import Client

from automation.models import Site
from pause_manager.models import Hold, PauseWindow
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import make_site
from tests.support.windows import make_window

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/windows/"
FORM = {
    "do": "create",
    "name": "backup",
    "scope": "fleet",
    "kind": "daily",
    "at": "22:00",
    "cron": "0 2 * * *",
    "every_minutes": "60",
    "weekdays": "mon-fri",
    "day_of_month": "1",
    "time_zone": "Europe/Berlin",
    "duration_minutes": "480",
    "mode": "quiesce",
    "reason": "the backup runs",
    "is_enabled": "on",
}


@pytest.fixture
def site() -> Site:
    return make_site("ours")


def signed_in(site: Site, name: str, *permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(name, site, *permissions))
    return client


@pytest.fixture
def client(site: Site) -> Client:
    return signed_in(site, "olga", "operate_fleet")


def test_a_window_is_created_shown_changed_and_deleted(client: Client) -> None:
    done = client.post(URL, FORM)
    assert done.status_code == 200, done.content
    assert done.json()["done"] == "Pause window backup: every day 22:00, Europe/Berlin, for 8 h 00 min."

    page = client.get(URL).content.decode()
    assert "every day 22:00, Europe/Berlin, for 8 h 00 min" in page
    assert page.count("22:00 to 06:00 CE") == 5
    assert "the backup runs" in page

    changed = {**FORM, "do": "change", "window": "backup", "kind": "interval", "every_minutes": "90", "mode": "drain"}
    assert client.post(URL, {**changed, "duration_minutes": "30"}).status_code == 200
    window = PauseWindow.objects.get()
    assert (window.kind, window.every_minutes, window.at, window.mode) == ("interval", 90, None, "drain")
    assert client.post(URL, {"do": "delete", "window": "backup"}).status_code == 200
    assert not PauseWindow.objects.exists()


def test_an_open_window_holds_and_is_ended(client: Client) -> None:
    make_window("fleet", name="always", kind="cron", cron="* * * * *", duration_minutes=10)
    assert Hold.objects.active().filter(kind="window", scope="fleet").exists()

    assert "open: it holds now" in client.get(URL).content.decode()
    assert client.post(URL, {"do": "skip", "window": "always", "reason": "urgent"}).status_code == 200

    assert not Hold.objects.active().filter(kind="window", scope="fleet").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"scope": "the fleet"}, "Cannot save the pause window: scope: expected"),
        ({"duration_minutes": "long"}, "duration_minutes: expected a whole number, got: 'long'."),
        ({"kind": "sometimes"}, "kind: expected one of daily, weekly, monthly, cron, interval, got: 'sometimes'."),
        ({"reason": ""}, "Cannot do that: the reason is missing."),
        ({"at": "late"}, "at: expected hours and minutes such as 08:00, got: 'late'."),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(client: Client, wrong: dict[str, str], sentence: str) -> None:
    answer = client.post(URL, FORM | wrong)

    assert answer.status_code == 409
    assert sentence in answer.json()["refused"]
    assert not PauseWindow.objects.exists()


def test_others_look_and_see_no_windows_of_lanes_of_other_accounts(site: Site) -> None:
    make_window("lane:theirs", name="hidden")
    make_window("lane:ours", name="shown")
    viewer = signed_in(site, "vera", VIEW, OPERATE)

    page = viewer.get(URL).content.decode()

    assert "window-shown" in page
    assert "window-hidden" not in page
    assert "data-ask" not in page.partition('id="content"')[2]
    assert viewer.post(URL, FORM).status_code == 403
