"""The derived status: a run's own, the list's, and the list's filter never disagree."""

from __future__ import annotations

import pytest

from automation import leases
from pause_manager import holds
from tests.support.api_users import RUNS
from tests.support.factories import OPERATOR, claim, worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def zoo(site):
    """One run of every status, by status."""
    from automation.models import AutomationRun
    from automation.runs import lifecycle, transitions
    from pause_manager.actor import SYSTEM
    from tests.support.factories import make_run

    def run(start=True):
        return make_run("scripted", site=site, start=start)

    made = {name: run(start=name != "pending") for name in ("pending", "running", "completed", "failed", "cancelled")}
    for name, arrow in (("completed", transitions.COMPLETE), ("failed", transitions.FAIL)):
        transitions.apply(arrow, made[name].pk, actor=SYSTEM, reason="for the zoo")
    lifecycle.cancel(made["cancelled"].pk, actor=OPERATOR)
    made["completed_with_failures"] = run()
    transitions.apply(transitions.COMPLETE, made["completed_with_failures"].pk, actor=SYSTEM, reason="for the zoo")
    AutomationRun.objects.filter(pk=made["completed_with_failures"].pk).update(failed_items=1)
    for name in ("pausing", "paused", "cancelling"):
        made[name] = run()
        if name != "paused":
            claim(made[name])
        (lifecycle.cancel if name == "cancelling" else lifecycle.pause)(made[name].pk, actor=OPERATOR)
    return made


@pytest.mark.req("M-03")
def test_detail_list_and_filter_agree_on_every_status(api, zoo):
    from automation.reports import status

    expected = {str(run.pk): name for name, run in zoo.items()}

    listed = {entry["id"]: entry["status"] for entry in api.get(RUNS).data["results"]}
    shown = {pk: api.get(f"{RUNS}{pk}/").data["status"] for pk in expected}
    told = {pk: api.get(f"{RUNS}{pk}/progress/").data["status"] for pk in expected}
    filtered = {
        entry["id"]: wanted for wanted in status.ALL for entry in api.get(f"{RUNS}?status={wanted}").data["results"]
    }

    assert listed == shown == told == filtered == expected


@pytest.mark.parametrize(
    "scope",
    [
        "fleet",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("pipeline:scripted", "lane:ours", "queue:stages")),
    ],
)
def test_a_run_that_a_wider_hold_keeps_is_waiting_once_nobody_works_on_it(api, zoo, scope):
    holds.place([scope], actor=OPERATOR, reason="upgrade")

    waiting = {str(zoo[name].pk) for name in ("pending", "running")}
    for pk in waiting:
        assert api.get(f"{RUNS}{pk}/").data["status"] == "waiting"
        assert api.get(f"{RUNS}{pk}/progress/").data["status"] == "waiting"
        reasons = api.get(f"{RUNS}{pk}/explain/").data["reasons"]
        assert [reason["sentence"].rpartition(": ")[2] for reason in reasons] == ["upgrade."]
    assert {entry["id"] for entry in api.get(f"{RUNS}?status=waiting").data["results"]} == waiting
    assert api.get(f"{RUNS}?status=pending").data["results"] == []
    assert api.get(f"{RUNS}?status=running").data["results"] == []

    leases.claim(zoo["running"].stages.get(position=0).pk, worker())
    assert api.get(f"{RUNS}?status=running").data["results"] == [], "it cannot be claimed either"


def test_a_run_is_running_while_a_worker_is_on_it_whatever_would_keep_it(api, zoo):
    run = zoo["running"]
    claim(run)

    holds.place(["fleet"], actor=OPERATOR, reason="upgrade")

    pk = str(run.pk)
    assert api.get(f"{RUNS}{pk}/").data["status"] == "running"
    assert [entry["id"] for entry in api.get(f"{RUNS}?status=running").data["results"]] == [pk]
    assert pk not in [entry["id"] for entry in api.get(f"{RUNS}?status=waiting").data["results"]]
