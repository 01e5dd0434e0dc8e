"""``/api/v1/queue/`` and ``/api/v1/lanes/``: who runs, who waits and why, what a lane is like, who may change it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from automation.models import Lane
from automation.runs import lifecycle
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.api_users import OPERATE, RUNS, VIEW, client_of, make_user
from tests.support.factories import OPERATOR
from tests.support.lane_runs import in_lane, make_lane, states
from tests.support.scrape import Scrape

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE, LANES = "/api/v1/queue/", "/api/v1/lanes/"


@pytest.fixture
def acme():
    return make_lane("acme", policy="skip_parked")


@pytest.fixture
def caller(acme):
    return client_of(make_user("ann", acme, VIEW, OPERATE))


@pytest.mark.req("S-11")
@pytest.mark.req("S-12")
@pytest.mark.req("S-13")
def test_the_queue_tells_who_runs_who_waits_and_why(caller, acme):
    parked, running, second = in_lane(acme), [], []
    lifecycle.pause(parked[0].pk, actor=OPERATOR)
    running, second = in_lane(acme), in_lane(acme, priority=4)
    last = in_lane(acme, priority=5, after=[second[0].pk])

    [told] = caller.get(QUEUE).data["results"]

    assert (told["lane"], told["policy"], told["width"]) == ("acme", "skip_parked", 1)
    assert told["active_task"]["run"] == str(running[0].pk)
    assert [one["run"] for one in told["paused"]] == [str(parked[0].pk)]
    assert not told["paused"][0]["has_place"]
    assert [one["run"] for one in told["waiting"]] == [str(second[0].pk), str(last[0].pk)]
    assert [one["position"] for one in told["waiting"]] == [1, 2], "the paused one is skipped"
    assert [[reason["code"] for reason in one["reasons"]] for one in told["waiting"]] == [
        ["lane"],
        ["dependency", "lane"],
    ]
    assert told["waiting"][0]["reason"]["sentence"] == (
        f"It waits for run {str(running[0].pk)[:8]} (numbers, running) of lane acme."
    )
    assert (told["frozen"], told["frozen_reason"], told["waiting_count"], told["paused_count"]) == (False, None, 2, 1)


@pytest.mark.req("S-11")
def test_a_frozen_lane_says_why_and_since_when(caller, acme):
    in_lane(acme)
    holds.place(["lane:acme"], kind=Hold.Kind.FREEZE, actor=OPERATOR, reason="the index is broken")

    [told] = caller.get(f"{QUEUE}?lane=acme&runs=1").json()["results"]

    assert (told["frozen"], told["frozen_reason"]) == (True, "the index is broken")
    assert told["frozen_at"] is not None


@pytest.mark.req("A-36")
def test_lanes_of_other_accounts_are_not_there(caller):
    other = make_lane("other")
    in_lane(other)

    assert [lane["name"] for lane in caller.get(LANES).data["results"]] == ["acme"]
    assert [lane["lane"] for lane in caller.get(QUEUE).data["results"]] == ["acme"]
    for answer in (
        caller.get(f"{LANES}other/"),
        caller.get(f"{QUEUE}?lane=other"),
        caller.patch(f"{LANES}other/", {"width": 9}),
        caller.get(f"{LANES}nowhere/"),
    ):
        assert (answer.status_code, answer.data["code"]) == (404, "not_found")
    assert Lane.objects.get(name="other").width == 1


def test_a_wider_lane_starts_those_who_wait(caller, acme):
    first, second, third = in_lane(acme, 3)

    answer = caller.patch(f"{LANES}acme/", {"width": 2, "reason": "a second machine"})

    assert (answer.status_code, answer.data["width"], answer.data["started"]) == (200, 2, 1)
    assert states(first, second, third) == ["running", "running", "pending"]
    event = ControlEvent.objects.filter(scope="lane:acme", action="lane_changed").latest("pk")
    assert (event.actor, event.channel, event.reason) == ("user:ann", "api", "a second machine")
    assert caller.patch(f"{LANES}acme/", {"policy": "strict"}).data["policy"] == "strict"
    assert caller.get(f"{LANES}acme/").data["policy"] == "strict"


@pytest.mark.parametrize(
    ("body", "field"), [({"width": 0}, "width"), ({"policy": "fair"}, "policy"), ({"widht": 2}, "widht")]
)
def test_a_wrong_change_names_the_field(caller, body, field):
    answer = caller.patch(f"{LANES}acme/", body)

    assert answer.status_code == 400
    assert field in answer.data["fields"]


def test_who_may_only_view_changes_nothing(acme):
    viewer = client_of(make_user("vic", acme, VIEW))

    assert viewer.get(f"{LANES}acme/").status_code == 200
    assert viewer.patch(f"{LANES}acme/", {"width": 2}).status_code == 403


def test_a_site_without_a_run_has_a_lane_with_its_defaults(caller, acme):
    Lane.objects.all().delete()

    assert caller.get(f"{LANES}acme/").data == {"name": "acme", "policy": "strict", "width": 1, "created_at": None}
    assert caller.get(LANES).data["results"] == []
    assert caller.get(f"{QUEUE}?lane=acme").data["results"][0]["waiting"] == []


def test_lanes_come_a_page_at_a_time(caller, acme):
    for name in ("bee", "cat", "dog"):
        site = make_lane(name)
        site.account = acme.account
        site.save()

    names, url = [], f"{LANES}?limit=3"
    while url:
        page = caller.get(url).data
        names += [lane["name"] for lane in page["results"]]
        url = page["next"]
    assert names == ["acme", "bee", "cat", "dog"]
    assert all(one < other for one, other in pairwise(names))


def test_lists_and_gauges_count_who_waits_for_a_lane_or_a_run(caller, acme):
    first, second = in_lane(acme, 2)
    (last,) = in_lane(acme, start=False, after=[first.pk])

    found = {name: caller.get(f"{RUNS}?status={name}").data["results"] for name in ("waiting", "pending", "running")}

    assert {name: {run["id"] for run in runs} for name, runs in found.items()} == {
        "waiting": {str(second.pk), str(last.pk)},
        "pending": set(),
        "running": {str(first.pk)},
    }
    assert {run["status"] for run in found["waiting"]} == {"waiting"}
    told = Scrape.of_the_view()
    assert told.value("slackwater_runs", status="waiting", pipeline="numbers") == 2
    assert told.value("slackwater_runs", status="running", pipeline="numbers") == 1
