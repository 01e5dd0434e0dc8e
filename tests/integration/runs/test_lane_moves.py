"""Runs that wait are moved in their lane: to the front, to the back, before another, by priority; never against a
dependency."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from automation import gate
from automation.errors import MoveRefused, TransitionRefused
from automation.models import AutomationRun
from automation.runs import dependencies, lane_moves, lifecycle
from pause_manager import holds
from tests.support.factories import OPERATOR, drain, events, make_site
from tests.support.lane_runs import again, in_lane, make_lane

pytestmark = pytest.mark.django_db(transaction=True)


def line(lane: str) -> list[AutomationRun]:
    """Those that wait, by their positions."""
    waiting = AutomationRun.objects.filter(lane=lane, lane_seat_at=None, finished_at=None)
    placed = [(gate.place_in_line(run).position or 0, run) for run in waiting]
    return [run for _, run in sorted(placed, key=lambda one: one[0])]


@pytest.fixture
def five() -> list[AutomationRun]:
    """A running run, and four that wait: of priority 2, 3, 3 and 4."""
    site = make_lane("acme")
    return [in_lane(site, priority=priority)[0] for priority in (3, 2, 3, 3, 4)]


def test_the_line_is_told_by_position(five):
    assert [gate.place_in_line(again(run)).position for run in five] == [None, 1, 2, 3, 4]
    drain(five[0])
    assert [gate.place_in_line(again(run)).position for run in five[1:]] == [None, 1, 2, 3]


@pytest.mark.req("M-26")
def test_to_the_front_takes_the_priority_of_the_first_and_says_so(five):
    moved = lane_moves.to_front(five[4].pk, actor=OPERATOR, reason="the customer waits")

    assert moved.sentence == (
        f"Run {five[4].pk} is number 1 of those that wait in lane acme; its priority is 2 now, it was 4."
    )
    assert line("acme") == [five[4], five[1], five[2], five[3]]
    [event] = events(five[4], "reordered")
    assert (event.before, event.after) == (
        {"priority": 4, "lane_order": 0},
        {"priority": 2, "lane_order": -1},
    )
    drain(five[0])
    assert again(five[4]).lifecycle == "running"


def test_to_the_back_comes_before_those_that_are_created_later(five):
    lane_moves.to_back(five[1].pk, actor=OPERATOR)
    (later,) = in_lane(five[0].site, priority=4)

    assert line("acme") == [five[2], five[3], five[4], five[1], later]
    lane_moves.to_back(five[2].pk, actor=OPERATOR)
    assert line("acme") == [five[3], five[4], five[1], later, five[2]]


def test_before_another_run_takes_its_priority_and_moves_nobody_else(five):
    moved = lane_moves.before(five[4].pk, five[3].pk, actor=OPERATOR)

    assert line("acme") == [five[1], five[2], five[4], five[3]]
    assert (moved.position, moved.run.priority, moved.was_priority) == (3, 3, 4)
    lane_moves.before(five[3].pk, five[1].pk, actor=OPERATOR)
    assert line("acme") == [five[3], five[1], five[2], five[4]]
    lane_moves.before(five[3].pk, five[4].pk, actor=OPERATOR)
    assert line("acme") == [five[1], five[2], five[3], five[4]]


def test_any_sequence_of_moves_leaves_the_others_in_their_order(five):
    waiting = five[1:]
    chance = random.Random(7)
    for _ in range(40):
        order = line("acme")
        run = chance.choice(waiting)
        rest = [one for one in order if one != run]
        kind = chance.choice(["front", "back", "before"])
        if kind == "front":
            lane_moves.to_front(run.pk, actor=OPERATOR)
            wanted = [run, *rest]
        elif kind == "back":
            lane_moves.to_back(run.pk, actor=OPERATOR)
            wanted = [*rest, run]
        else:
            other = chance.choice(rest)
            lane_moves.before(run.pk, other.pk, actor=OPERATOR)
            at = rest.index(other)
            wanted = [*rest[:at], run, *rest[at:]]
        assert line("acme") == wanted, (kind, run)


def test_another_priority_is_another_place(five):
    lane_moves.set_priority(five[3].pk, 1, actor=OPERATOR)
    assert line("acme") == [five[3], five[1], five[2], five[4]]

    moved = lane_moves.set_priority(five[0].pk, 5, actor=OPERATOR)
    assert moved.sentence.endswith("does not wait in lane acme; its priority is 5 now, it was 3.")
    with pytest.raises(MoveRefused, match=r"expected a priority of 1 \(first\) to 5, got: 6"):
        lane_moves.set_priority(five[3].pk, 6, actor=OPERATOR)


@pytest.mark.req("M-26")
def test_no_run_comes_before_one_that_it_waits_for(five):
    dependencies.add(five[3].pk, [five[2].pk], actor=OPERATOR)
    order = line("acme")
    told = f"run {str(five[3].pk)[:8]} would come before run {str(five[2].pk)[:8]}, which it waits for"

    for move in (
        lambda: lane_moves.to_front(five[3].pk, actor=OPERATOR),
        lambda: lane_moves.to_back(five[2].pk, actor=OPERATOR),
        lambda: lane_moves.before(five[3].pk, five[2].pk, actor=OPERATOR),
        lambda: lane_moves.set_priority(five[3].pk, 1, actor=OPERATOR),
    ):
        with pytest.raises(MoveRefused, match=told):
            move()
    assert line("acme") == order
    assert not events(five[3], "reordered")

    lane_moves.to_front(five[2].pk, actor=OPERATOR)
    lane_moves.before(five[3].pk, five[1].pk, actor=OPERATOR)
    assert line("acme") == [five[2], five[3], five[1], five[4]]


def test_what_cannot_be_moved_is_refused_by_name(five):
    elsewhere = in_lane(make_lane("elsewhere"), 2)[1]

    with pytest.raises(MoveRefused, match="it holds a place in lane acme already"):
        lane_moves.to_back(five[0].pk, actor=OPERATOR)
    with pytest.raises(MoveRefused, match=f"run {five[0].pk} holds a place in lane acme already"):
        lane_moves.before(five[1].pk, five[0].pk, actor=OPERATOR)
    with pytest.raises(MoveRefused, match=f"no unfinished run {elsewhere.pk} is in its lane acme"):
        lane_moves.before(five[1].pk, elsewhere.pk, actor=OPERATOR)
    with pytest.raises(MoveRefused, match="it cannot come before itself"):
        lane_moves.before(five[1].pk, five[1].pk, actor=OPERATOR)
    with pytest.raises(TransitionRefused, match="does not exist"):
        lane_moves.to_front(uuid4(), actor=OPERATOR)
    lifecycle.cancel(five[1].pk, actor=OPERATOR)
    with pytest.raises(TransitionRefused, match="is cancelled"):
        lane_moves.to_front(five[1].pk, actor=OPERATOR)


def test_the_expected_start_is_measured_from_runs_that_completed(five):
    assert gate.place_in_line(again(five[2])).expected_start is None, "nothing is measured yet"
    holds.place(["lane:acme"], actor=OPERATOR, reason="the worker is for another")
    ended = drain(in_lane(make_site("other"))[0])
    holds.release(["lane:acme"], actor=OPERATOR)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_automationrun SET site_id = %s, lane = 'acme', started_at = now() - interval '1 hour', "
            "finished_at = now() WHERE id = %s",
            [five[0].site_id, ended.pk],
        )

    expected = [gate.place_in_line(again(run)).expected_start for run in five[1:]]

    now = timezone.now()
    for number, at in enumerate(expected, start=1):
        assert at is not None
        assert abs(at - now - timedelta(hours=number)) < timedelta(minutes=2)
    assert all(earlier < later for earlier, later in pairwise(filter(None, expected)))
    holds.place(["lane:acme"], actor=OPERATOR, reason="moving")
    assert gate.place_in_line(again(five[2])).expected_start is None
    holds.release(["lane:acme"], actor=OPERATOR)
    lifecycle.pause(five[1].pk, actor=OPERATOR)
    assert gate.place_in_line(again(five[2])).expected_start is None
