"""Parking a run and freezing a lane over HTTP."""

from __future__ import annotations

import pytest

from tests.support.api_users import RUNS, client_of

pytestmark = pytest.mark.django_db(transaction=True)
GATE = "/api/v1/serial-gate/"


@pytest.fixture
def run(site):
    from tests.support.factories import make_run

    return make_run("scripted", site=site, items=20)


@pytest.mark.req("S-21")
@pytest.mark.req("S-35")
def test_parking_twice_keeps_the_first_time_and_resuming_twice_is_refused(api, run):
    first = api.post(f"{GATE}pause?work_item={run.pk}", {"reason": "look"})
    second = api.post(f"{GATE}pause?work_item={run.pk}")

    assert (first.status_code, first.data["status"]) == (200, "paused")
    assert second.data["paused_at"] == first.data["paused_at"]
    assert api.post(f"{GATE}resume?work_item={run.pk}").data["status"] == "running"
    again = api.post(f"{GATE}resume?work_item={run.pk}")
    assert (again.status_code, again.data["code"]) == (409, "transition_refused")
    assert "it is running" in again.data["message"]


@pytest.mark.req("S-35")
@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_an_unknown_run_is_not_found(api, verb):
    for name in ("ffffffff-0000-4000-8000-000000000000", "none"):
        answer = api.post(f"{GATE}{verb}?work_item={name}")
        assert (answer.status_code, answer.data["code"]) == (404, "not_found")
    assert api.post(f"{GATE}{verb}").status_code == 400


@pytest.mark.req("S-21")
@pytest.mark.req("S-17")
def test_a_frozen_lane_starts_nothing_until_it_is_unfrozen(api, run, site):
    from automation import gate
    from tests.support.factories import claim

    frozen = api.post(f"{GATE}freeze?lane=ours", {"reason": "the totals differ"})
    twice = api.post(f"{GATE}freeze?lane=ours", {"reason": "other"})

    assert frozen.data["frozen"] is True
    assert (frozen.data["frozen_reason"], frozen.data["frozen_by"]) == ("the totals differ", "user:alice")
    assert twice.data == frozen.data
    assert claim(run) is None
    (reason,) = [one for one in gate.explain(run) if one.keeps]
    assert reason.sentence == "The lane ours was frozen by alice: the totals differ."

    lifted = api.post(f"{GATE}unfreeze?lane=ours", {"reason": "corrected"})

    assert lifted.data == {
        "lane": "ours",
        "frozen": False,
        "frozen_reason": None,
        "frozen_at": None,
        "frozen_by": None,
    }
    assert claim(run) is not None
    again = api.post(f"{GATE}unfreeze?lane=ours")
    assert (again.status_code, again.data["code"]) == (409, "not_frozen")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"why": "x"}])
def test_a_freeze_needs_a_reason(api, site, body):
    from automation.runs import freezes

    assert api.post(f"{GATE}freeze?lane=ours", body).status_code == 400
    assert freezes.of_lane("ours") is None


@pytest.mark.req("A-36")
def test_a_lane_of_others_is_not_found(stranger, run, their_site):
    client = client_of(stranger)

    for verb in ("freeze", "unfreeze"):
        answer = client.post(f"{GATE}{verb}?lane=ours", {"reason": "mine"})
        assert (answer.status_code, answer.data["message"]) == (
            404,
            "Cannot find lane 'ours': there is none that you may see.",
        )
    assert client.post(f"{GATE}pause?work_item={run.pk}").status_code == 404
    assert client.post(f"{GATE}freeze?lane=theirs", {"reason": "mine"}).status_code == 200


@pytest.mark.req("S-26")
def test_an_operator_lifts_what_a_stage_froze(api, site):
    from automation.pipeline import FreezeLane
    from tests.support.factories import drain, make_run
    from tests.support.pipelines import scripted

    def check(item, ctx):
        raise FreezeLane("the totals differ")

    with scripted(check):
        run = drain(make_run("scripted", site=site, items=3))

    assert api.post(f"{GATE}unfreeze?lane=ours").data["frozen"] is False
    assert drain(run).lifecycle == "completed"
    (event,) = api.get(f"{RUNS}{run.pk}/events/?action=froze_lane").data["results"]
    assert event["details"]["lane"] == "ours"
