"""The page of settings: the watch of capacity, thresholds and what they would do, overrides, and what is in force."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from automation.models import Lane, Site
from pause_manager.models import Override, WorkerNode
from pause_manager.nodes import watching
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import make_site
from tests.support.node_factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/settings/"


@pytest.fixture
def site() -> Site:
    return make_site("acme")


@pytest.fixture
def client(site: Site) -> Client:
    return signed_in(site, "flo", "operate_fleet")


@pytest.fixture(autouse=True)
def _capacity_may_be_watched(settings: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": True}


def signed_in(site: Site, name: str, *permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(name, site, *permissions))
    return client


def test_the_watch_is_switched_with_a_reason(client: Client) -> None:
    assert client.post(URL, {"do": "watch", "on": "0"}).status_code == 409
    assert watching.is_watched()

    assert client.post(URL, {"do": "watch", "on": "0", "reason": "load test"}).status_code == 200
    assert not watching.is_watched()
    again = client.post(URL, {"do": "watch", "on": "0", "reason": "load test"})
    assert again.json()["refused"] == "Cannot change that: capacity is not watched already."
    assert "Nothing asks for room before it starts." in client.get(URL).content.decode()


def test_a_node_gets_a_threshold_and_loses_it(client: Client) -> None:
    make_node("gpu-7")

    assert client.post(URL, {"do": "threshold", "node": "gpu-7", "value": "35"}).status_code == 200
    assert WorkerNode.objects.get().pause_below == 0.35
    assert "35 %" in client.get(URL).content.decode()
    assert client.post(URL, {"do": "threshold", "node": "gpu-7", "value": "none"}).status_code == 200
    assert WorkerNode.objects.get().pause_below is None
    for value in ("150", "much", "-3"):
        assert client.post(URL, {"do": "threshold", "node": "gpu-7", "value": value}).status_code == 409
    unknown = client.post(URL, {"do": "threshold", "node": "gone", "value": "20"}).json()["refused"]
    assert unknown == "Cannot set the threshold of node gone: none of that name is known."


def test_it_tells_what_a_threshold_would_do(client: Client) -> None:
    make_node("gpu-7")

    page = client.get(URL, {"try": "node:gpu-7", "share": "30"}).content.decode()
    assert "With 30% for node gpu-7:</b> Nothing waits for capacity now" in page
    page = client.get(URL, {"try": "node:gpu-7", "share": "much"}).content.decode()
    assert "Cannot use the threshold" in page


def test_a_value_is_set_for_a_while_and_ended(client: Client, site: Site) -> None:
    given = {"do": "override", "kind": "lane_width", "target": "acme", "value": "3", "for": "2", "unit": "hours"}
    had = Lane.objects.get(name="acme").width

    answer = client.post(URL, {**given, "reason": "rush"})

    assert answer.status_code == 200, answer.content
    assert Lane.objects.get(name="acme").width == 3
    override = Override.objects.get()
    assert (override.actor, override.reason) == ("user:flo", "rush")
    assert 7_100 < (override.expires_at - override.created_at).total_seconds() <= 7_200
    page = client.get(URL).content.decode()
    assert f'id="override-{override.pk}"' in page
    assert client.post(URL, {"do": "end", "override": str(override.pk)}).status_code == 200
    assert Lane.objects.get(name="acme").width == had


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "colour"}, "Cannot override 'colour': expected"),
        ({"target": "nowhere"}, "there is no such lane"),
        ({"value": "wide"}, "expected a whole number from 1 to"),
        ({"for": "soon"}, "expected a whole number of hours, got: soon."),
        ({"for": "1", "unit": "years"}, "expected as unit one of minutes, hours, days, got: years."),
        ({"for": "999999"}, "expected more than 0 s and at most 366 days"),
    ],
)
def test_a_wrong_override_is_refused(client: Client, site: Site, wrong: dict[str, str], sentence: str) -> None:
    given = {"do": "override", "kind": "lane_width", "target": "acme", "value": "3", "for": "2", "unit": "hours"}

    answer = client.post(URL, given | wrong)

    assert answer.status_code == 409
    assert sentence in answer.json()["refused"]
    assert not Override.objects.exists()


def test_settings_are_shown_without_secrets(client: Client, settings: Any) -> None:
    settings.PAUSE_MANAGER = {
        **settings.PAUSE_MANAGER,
        "metrics_token": "very-secret",
        "statsd_url": "udp://someone:hush@localhost:8125/x",
    }

    page = client.get(URL).content.decode()

    assert "very-secret" not in page
    assert "hush" not in page
    assert re.search(r"<code>metrics_token</code>.*?\(hidden\)", page, re.DOTALL)


def test_it_is_for_operators_of_the_fleet(site: Site) -> None:
    operator = signed_in(site, "olga", VIEW, OPERATE)

    assert operator.get(URL).status_code == 403
    assert operator.post(URL, {"do": "watch", "on": "0", "reason": "x"}).status_code == 403
    assert watching.is_watched()
