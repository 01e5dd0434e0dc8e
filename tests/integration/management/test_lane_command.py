"""``manage.py lane`` as a person or a script meets it."""

from __future__ import annotations

import json

import pytest

from automation.models import Lane
from automation.runs import dependencies, lanes, lifecycle
from pause_manager.models import Hold
from tests.support.factories import OPERATOR, events
from tests.support.lane_runs import again, in_lane, make_lane, states

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def three():
    return in_lane(make_lane("acme"), 3)


def test_it_lists_and_shows_lanes(shell, three):
    first, second, third = three
    lifecycle.pause(third.pk, actor=OPERATOR)

    assert shell("lane", "list").out == "acme  strict, width 1: 1 active, 1 waiting, 1 paused\n"
    [told] = shell("lane", "list", "--json").objects
    assert told == {
        "lane": "acme",
        "policy": "strict",
        "width": 1,
        "active": 1,
        "waiting": 1,
        "paused": 1,
        "frozen": False,
    }
    shown = shell("lane", "show", "acme").out
    assert f"active   {str(first.pk)[:8]}" in shown
    assert f"1.  {str(second.pk)[:8]} (numbers, pending), priority 3: It waits for run {str(first.pk)[:8]}" in shown
    assert f"paused   {str(third.pk)[:8]}" in shown
    [told] = shell("lane", "show", "acme", "--json").objects
    assert [one["run"] for one in told["waiting"]] == [str(second.pk)]
    assert told["waiting"][0]["reasons"][0]["code"] == "lane"


def test_it_changes_width_and_policy(shell, three):
    done = shell("lane", "width", "acme", "2", "--reason", "a second machine")

    assert (done.code, done.out) == (0, "Lane acme is strict with width 2; 1 run got a place by it.\n")
    assert states(*three) == ["running", "running", "pending"]
    assert shell("lane", "policy", "acme", "skip_parked", "--json").objects[0]["policy"] == "skip_parked"
    wrong = shell("lane", "width", "acme", "0")
    assert (wrong.code, wrong.err) == (2, "Cannot change lane acme: expected a width of 1 to 10,000, got: 0.\n")
    assert Lane.objects.get(name="acme").width == 2


def test_it_freezes_and_unfreezes(shell, three):
    done = shell("lane", "freeze", "acme", "--reason", "the index is broken")

    assert (done.code, done.out) == (0, "Lane acme is frozen.\n")
    hold = Hold.objects.get(scope="lane:acme", released_at=None)
    assert (hold.kind, hold.reason) == ("freeze", "the index is broken")
    assert "FROZEN" in shell("lane", "list").out
    assert "the index is broken" in shell("lane", "show", "acme").out
    again_ = shell("lane", "freeze", "acme", "--reason", "again", "--json")
    assert (again_.code, json.loads(again_.err)["error"]) == (3, "lane_refused")
    assert shell("lane", "unfreeze", "acme").out == "Lane acme is not frozen any more.\n"
    refused = shell("lane", "unfreeze", "acme")
    assert (refused.code, refused.err) == (3, "Cannot unfreeze lane acme: it is not frozen.\n")
    assert shell("lane", "freeze", "acme").code == 2


@pytest.mark.req("M-26")
def test_it_moves_runs(shell, three):
    first, second, third = three

    done = shell("lane", "move", str(third.pk), "--front", "--reason", "urgent")
    assert (done.code, done.out) == (0, f"Run {third.pk} is number 1 of those that wait in lane acme.\n")
    assert events(third, "reordered")[0].channel == "cli"
    shell("lane", "move", str(third.pk), "--back")
    assert shell("lane", "move", str(third.pk), "--before", str(second.pk), "--json").objects[0]["position"] == 1
    done = shell("lane", "move", str(second.pk), "--priority", "1")
    assert done.out.endswith("is number 1 of those that wait in lane acme; its priority is 1 now, it was 3.\n")
    assert again(second).priority == 1
    refused = shell("lane", "move", str(first.pk), "--front")
    assert (refused.code, refused.err) == (3, f"Cannot move run {first.pk}: it holds a place in lane acme already.\n")
    dependencies.add(third.pk, [second.pk], actor=OPERATOR)
    assert shell("lane", "move", str(third.pk), "--front").code == 3
    assert shell("lane", "move", str(third.pk)).code == 2


def test_what_is_not_there_is_named(shell, three):
    missing = shell("lane", "show", "amce")

    assert missing.code == 4
    assert missing.err == "Cannot find lane amce: expected the slug of a site, such as acme.\n"
    assert shell("lane").code == 2


def test_check_runs_tells_of_lanes_that_are_too_full_and_of_runs_without_a_place(shell):
    site = make_lane("acme", width=2, policy="skip_parked")
    first, _ = in_lane(site, 2)
    assert "lane" not in shell("check_runs").out

    lifecycle.pause(first.pk, actor=OPERATOR)
    in_lane(site)
    lifecycle.resume(first.pk, actor=OPERATOR)
    lanes.change("acme", width=1, actor=OPERATOR)

    told = shell("check_runs")
    assert told.code == 0
    assert "1 run is running without a place in the lane and will continue when one is free.\n" in told.out
    assert "More runs are active than the width of the lane allows: acme has no place for others.\n" in told.out
