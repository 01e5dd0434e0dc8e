"""The page of lanes: who waits where and why, and what an operator changes from it."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from automation.gate import lane_order
from automation.models import AutomationRun, Lane, Site
from automation.runs import freezes, lanes, lifecycle
from pause_manager.models import ControlEvent
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR
from tests.support.lane_runs import again, in_lane, make_lane, states

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/lanes/"


@pytest.fixture
def site() -> Site:
    return make_lane("acme")


@pytest.fixture
def client(site: Site) -> Client:
    return signed_in(site, "olga", VIEW, OPERATE)


def signed_in(site: Site, name: str, *permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(name, site, *permissions))
    return client


def order(site: Site) -> list[AutomationRun]:
    return list(lane_order.waiting_in(site.slug))


def test_it_shows_who_has_a_place_who_waits_and_why(client: Client, site: Site) -> None:
    first, second, third = in_lane(site, 3)

    page = client.get(URL).content.decode()

    assert "1 of 1 taken" in page
    assert page.index(f"lane-run-{first.pk}") < page.index(f"lane-run-{second.pk}") < page.index(f"lane-run-{third.pk}")
    assert f"It waits for run {str(first.pk)[:8]}" in page


def test_a_run_moves_up_down_and_to_the_ends(client: Client, site: Site) -> None:
    _, second, third, fourth = in_lane(site, 4)

    def move(run: AutomationRun, **values: str) -> dict[str, str]:
        answer = client.post(URL, {"do": "move", "run": str(run.pk), **values})
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    done = move(fourth, where="front")
    assert "is number 1 of those that wait" in done["done"]
    assert order(site) == [fourth, second, third]
    move(third, where="before", other=str(second.pk))
    assert order(site) == [fourth, third, second]
    move(fourth, where="back")
    assert order(site) == [third, second, fourth]


def test_priority_counts_before_the_order_of_creation(client: Client, site: Site) -> None:
    _, second, third = in_lane(site, 3)

    done = client.post(URL, {"do": "priority", "run": str(third.pk), "priority": "1", "reason": "the customer waits"})

    assert done.status_code == 200
    assert order(site) == [third, second]
    refused = client.post(URL, {"do": "priority", "run": str(third.pk), "priority": "9"})
    assert refused.status_code == 409
    assert refused.json()["refused"] == "Cannot change the priority: expected 1 (first) to 5, got: 9."


def test_a_wider_lane_starts_those_who_wait(client: Client, site: Site) -> None:
    runs = in_lane(site, 3)

    done = client.post(URL, {"do": "change", "lane": "acme", "width": "2", "policy": "skip_parked"}).json()["done"]

    assert done == "Lane acme: 2 runs at a time; a paused run leaves its place to the next. 1 got a place by it."
    assert states(*runs) == ["running", "running", "pending"]


@pytest.mark.parametrize("width", ["0", "-1", "two", "10001"])
def test_a_width_that_is_none_is_refused(client: Client, site: Site, width: str) -> None:
    answer = client.post(URL, {"do": "change", "lane": "acme", "width": width})

    assert answer.status_code == 409
    assert "Cannot change lane acme: expected a" in answer.json()["refused"]
    assert Lane.objects.get(name="acme").width == 1


def test_a_freeze_says_who_and_why_and_is_lifted_again(client: Client, site: Site) -> None:
    run, waiting = in_lane(site, 2)

    assert client.post(URL, {"do": "freeze", "lane": "acme"}).status_code == 409
    assert client.post(URL, {"do": "freeze", "lane": "acme", "reason": "the shop is down"}).status_code == 200

    page = client.get(URL).content.decode()
    assert "by olga: the shop is down" in page
    lifecycle.cancel(run.pk, actor=OPERATOR)
    assert states(waiting) == ["pending"]
    assert client.post(URL, {"do": "unfreeze", "lane": "acme"}).json()["done"] == "Lane acme is not frozen any more."
    assert states(waiting) == ["running"]
    freeze = ControlEvent.objects.get(action="hold_placed", scope="lane:acme")
    assert (freeze.actor, freeze.channel) == ("user:olga", "console")


def test_a_long_lane_is_bounded(client: Client, site: Site) -> None:
    in_lane(site, 25)

    with CaptureQueriesContext(connection) as queries:
        page = client.get(URL).content.decode()

    assert "The first 20 of 24 that wait are listed." in page
    assert page.count('title="Up"') == 20
    assert len(queries) < 500


def test_viewers_see_lanes_but_no_controls(site: Site) -> None:
    _, waiting = in_lane(site, 2)
    viewer = signed_in(site, "vera", VIEW)

    page = viewer.get(URL).content.decode()

    assert f"lane-run-{waiting.pk}" in page
    assert "data-ask" not in page.partition('id="content"')[2]
    assert viewer.post(URL, {"do": "freeze", "lane": "acme", "reason": "x"}).status_code == 403
    assert freezes.of_lane("acme") is None


def test_lanes_and_runs_of_others_do_not_exist(client: Client, site: Site) -> None:
    theirs = make_lane("other")
    _, waiting = in_lane(theirs, 2)
    in_lane(site)

    page = client.get(URL).content.decode()
    assert "lane-acme" in page
    assert "lane-other" not in page
    assert "No lane other" in client.get(URL, {"lane": "other"}).content.decode()
    for values in (
        {"do": "freeze", "lane": "other", "reason": "x"},
        {"do": "change", "lane": "other", "width": "5"},
        {"do": "move", "run": str(waiting.pk), "where": "front"},
        {"do": "priority", "run": str(waiting.pk), "priority": "1"},
        {"do": "move", "run": "not an id", "where": "front"},
    ):
        answer = client.post(URL, values)
        assert answer.status_code == 409
        assert "do not have access to it" in answer.json()["refused"]
    assert Lane.objects.get(name="other").width == 1
    assert again(waiting).priority == 3


def test_many_lanes_have_pages_and_one_can_be_looked_at(client: Client, site: Site) -> None:
    for number in range(12):
        Site.objects.create(account=site.account, slug=f"b{number:02}", name=f"Blog {number}")
        lanes.ensure(f"b{number:02}")

    first = client.get(URL).content.decode()
    second = client.get(URL, {"after": "b08"}).content.decode()

    assert 'id="lane-acme"' in first
    assert 'id="lane-b08"' in first
    assert 'id="lane-b09"' not in first
    assert '?after=b08"' in first
    assert [f'id="lane-b{number:02}"' in second for number in (8, 9, 10, 11)] == [False, True, True, True]
