"""Priority and place of a run over HTTP."""

from __future__ import annotations

import pytest

from tests.support.api_users import RUNS, client_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runs(site):
    """The first runs, the others wait for it, in order."""
    from automation.runs import lanes
    from tests.support.factories import OPERATOR, make_run

    lanes.change(site.slug, width=1, actor=OPERATOR)
    return [make_run("scripted", site=site, items=3) for _ in range(4)]


def waiting(lane="ours"):
    from automation.gate import lane_order

    return [run.pk for run in lane_order.waiting_in(lane, "")]


def patch(api, run, **body):
    return api.patch(f"{RUNS}{run.pk}/", body)


@pytest.mark.req("M-26")
def test_a_run_is_moved_and_told_where_it_is(api, runs):
    _, one, two, three = runs
    assert waiting() == [one.pk, two.pk, three.pk]

    front = patch(api, three, move="front", reason="urgent")
    assert (front.status_code, front.data["position"]) == (200, 1)
    assert front.data["moved"] == f"Run {three.pk} is number 1 of those that wait in lane ours."
    assert waiting() == [three.pk, one.pk, two.pk]
    assert patch(api, three, move="back").data["position"] == 3
    assert patch(api, two, move={"before": str(one.pk)}).data["position"] == 1
    assert waiting() == [two.pk, one.pk, three.pk]
    (event, *_) = api.get(f"{RUNS}{three.pk}/events/?action=reordered").data["results"]
    assert event["actor"] == "user:alice"


@pytest.mark.req("M-26")
def test_a_priority_is_changed(api, runs):
    _, one, two, three = runs

    answer = patch(api, three, priority=1)

    assert (answer.status_code, answer.data["priority"], answer.data["position"]) == (200, 1, 1)
    assert "its priority is 1 now, it was 3" in answer.data["moved"]
    assert waiting() == [three.pk, one.pk, two.pk]


@pytest.mark.req("M-26")
def test_not_against_a_dependency(api, runs):
    from automation.runs import dependencies
    from tests.support.factories import OPERATOR

    _, one, two, _ = runs
    dependencies.add(two.pk, [one.pk], actor=OPERATOR)

    refused = patch(api, two, move="front")

    assert (refused.status_code, refused.data["code"]) == (409, "move_refused")
    assert f"run {str(two.pk)[:8]} would come before run {str(one.pk)[:8]}" in refused.data["message"]
    assert waiting()[:2] == [one.pk, two.pk]


def test_a_run_that_holds_a_place_is_not_moved_and_an_ended_one_neither(api, runs):
    first, one, *_ = runs

    assert patch(api, first, move="back").data["code"] == "move_refused"
    assert patch(api, first, priority=2).status_code == 200
    api.post(f"{RUNS}{one.pk}/cancel/")
    assert (patch(api, one, priority=2).status_code, patch(api, one, priority=2).data["code"]) == (
        409,
        "transition_refused",
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"priority": 0},
        {"priority": 6},
        {"priority": "high"},
        {"move": "up"},
        {"move": {"after": "x"}},
        {"move": {"before": 7}},
        {"move": "front", "priority": 1},
        {"prio": 1},
    ],
)
def test_what_is_no_place_is_refused(api, runs, body):
    assert api.patch(f"{RUNS}{runs[1].pk}/", body).status_code == 400


@pytest.mark.req("A-36")
def test_runs_of_others_are_not_found(stranger, api, runs, their_site):
    from tests.support.factories import make_run

    theirs = make_run("scripted", site=their_site, items=3)

    assert patch(client_of(stranger), runs[1], move="front").status_code == 404
    assert patch(api, runs[1], move={"before": str(theirs.pk)}).status_code == 404
