"""A hold on more than a run has an event when the last of what it stops has stopped, and one when work goes on."""

from __future__ import annotations

import pytest

from automation import leases
from automation.items.leased_slice import LeasedSlice
from automation.leases.holders import Worker
from automation.models import AutomationRun, Lifecycle, WorkSlice
from automation.runs import reconciler
from pause_manager import holds
from pause_manager.holds import milestones
from pause_manager.models import ControlEvent, FleetWorker, Hold
from pause_manager.probes.processes import host_name
from pause_manager.tasks import expire_holds
from tests.support.agent_calls import Caller, done, make_agent
from tests.support.factories import OPERATOR, drain, leased, make_run, make_site, run_loop, stage_of
from tests.support.pipelines import scripted
from tests.support.scrape import Scrape, renamed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.req("W-28")]


def told(scope: str, *actions: str) -> list[ControlEvent]:
    found = ControlEvent.objects.filter(scope=scope, action__in=actions or ("settled", "went_on")).order_by("pk")
    return list(found)


def place(scope: str, mode: str = "drain") -> Hold:
    holds.place([scope], mode=mode, actor=OPERATOR, reason="upgrade")
    return Hold.objects.active().get(scope=scope)


def lift(scope: str) -> None:
    holds.release([scope], actor=OPERATOR, reason="done")


def here(run: AutomationRun) -> LeasedSlice:
    """A lease of this machine, where the loops of a test are."""
    stage_run = stage_of(run)
    work = leases.claim(stage_run.pk, Worker("test/a", host_name()))
    assert work is not None
    return work


@pytest.mark.parametrize("scope", ["fleet", "pipeline:few", "lane:blog", "queue:stages", f"node:{host_name()}"])
def test_a_drain_is_told_when_the_last_lease_is_given_back_and_when_work_goes_on(scope):
    blog = make_site("blog")
    first, second, other = (make_run("few", items=3, site=blog) for _ in range(3))
    works = [here(first), here(first), here(second)]

    hold = place(scope)
    [placed] = told(scope, "hold_placed")
    assert placed.details["at_hand"] == {"leases": 3, "runs": 2}
    for work in works[:2]:
        leases.release(work)
        expire_holds()
    assert told(scope) == [], "one is still at work"
    leases.release(works[2])
    for _ in range(2):
        expire_holds()

    [settled] = told(scope)
    assert (settled.action, settled.actor) == ("settled", "system")
    known = {"hold": hold.pk, "kind": "operator", "mode": "drain", "leases": 3, "runs": 2}
    assert known.items() <= settled.details.items()
    hold.refresh_from_db()
    assert hold.drained_at is not None
    took = (hold.drained_at - hold.created_at).total_seconds()
    assert settled.details["seconds"] == pytest.approx(took, abs=0.01)

    lift(scope)
    assert told(scope) == [settled], "nothing has begun yet"
    for run in (first, other):
        assert drain(run).lifecycle == Lifecycle.COMPLETED

    [_, went_on] = told(scope)
    assert (went_on.action, went_on.details["hold"], went_on.details["runs"]) == ("went_on", hold.pk, 2)
    assert went_on.details["seconds"] >= 0
    lines = Scrape.of_the_view()
    subject = {"scope": scope.partition(":")[0], "kind": "operator"}
    assert lines.value("slackwater_pause_settle_seconds_count", **subject, mode="drain") == 1
    assert lines.value("slackwater_resume_seconds_count", **subject) == 1


def test_the_loop_that_ends_last_tells_it_and_the_next_one_that_work_goes_on():
    run, other = make_run("scripted", items=4), make_run("few", items=3)

    def hold(item, ctx):
        if item["n"] == 2:
            holds.place(["fleet"], mode="drain", actor=OPERATOR, reason="upgrade")

    with scripted(hold):
        run_loop(run)
    assert [event.action for event in told("fleet")] == ["settled"], "nobody but the loop has looked"
    lift("fleet")
    assert [event.action for event in told("fleet")] == ["settled"]
    drain(other)
    assert [event.action for event in told("fleet")] == ["settled", "went_on"]


def test_an_agent_that_gives_its_job_back_tells_it_and_its_next_claim_that_work_goes_on():
    make_run("remote", items=20)
    caller = Caller(make_agent()[1])
    job = caller.claim()

    place("fleet", "quiesce")
    assert told("fleet") == []
    caller.to(job, "checkpoint", **done(job, last=3), release=True)
    assert [event.action for event in told("fleet")] == ["settled"]
    lift("fleet")
    assert caller.claim() is not None
    assert [event.action for event in told("fleet")] == ["settled", "went_on"]


def test_a_lost_lease_is_at_hand_until_it_is_ended_and_other_work_is_not():
    run = make_run("few", items=3)
    leased(run)
    place("node:elsewhere")
    assert Hold.objects.get(scope="node:elsewhere").drained_at is not None, "nothing is at work there"
    hold = place("pipeline:few")
    WorkSlice.objects.leased().update(lease_expires_at="2020-01-01T00:00:00Z")

    expire_holds()
    assert told("pipeline:few") == []
    reconciler.reap()
    expire_holds()

    [settled] = told("pipeline:few")
    assert settled.details["hold"] == hold.pk


def test_a_hold_that_stopped_nothing_is_neither_told_of_nor_measured():
    run = make_run("few", items=3)

    place("fleet")
    expire_holds()
    lift("fleet")
    drain(run)

    assert told("fleet") == []
    hold = Hold.objects.get(scope="fleet")
    assert hold.drained_at is not None
    assert hold.work_resumed_at is not None
    lines = Scrape.of_the_view()
    assert lines.value("slackwater_pause_settle_seconds_count", scope="fleet", kind="operator", mode="drain") is None
    assert lines.value("slackwater_resume_seconds_count", scope="fleet", kind="operator") is None


def test_a_run_that_is_paused_at_work_has_both_events_too():
    run = make_run("few", items=3)
    work = leased(run)
    holds.place([run.scope], actor=OPERATOR, reason="lunch")
    leases.release(work)
    reconciler.reconcile()
    [settled] = told(run.scope)
    assert settled.details["mode"] == "quiesce"

    lift(run.scope)
    drain(run)

    assert [event.action for event in told(run.scope)] == ["settled", "went_on"]


def test_counting_that_fails_keeps_no_hold_from_being_placed():
    leased(make_run("few", items=3))

    with renamed(FleetWorker._meta.db_table):
        hold = place("queue:stages")

    assert hold.mode == "drain"
    assert "at_hand" not in told("queue:stages", "hold_placed")[0].details
    assert Scrape.of_the_view().value("slackwater_gate_degraded", layer="telemetry") == 1


def test_what_a_hold_stops_is_looked_for_by_one_statement_that_needs_no_scan(django_assert_num_queries):
    run = make_run("few", items=3)
    leased(run)
    place("fleet")

    with django_assert_num_queries(5):
        milestones.detect_drained(["fleet"])
    with django_assert_num_queries(1):
        milestones.detect_drained(["queue:nothing"])
    assert stage_of(run).slices.exists()
