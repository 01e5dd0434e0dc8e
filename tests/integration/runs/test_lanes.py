"""Runs of one lane wait for each other: who starts, who waits for whom, what a pause, a freeze and an end change."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection

from automation import gate
from automation.errors import LaneRefused
from automation.models import AutomationRun, Lane, Lifecycle
from automation.reports.working_time import durations_of
from automation.runs import lanes, lifecycle, reconciler, timeouts
from pause_manager import holds
from pause_manager.models import ControlEvent, Hold
from tests.support.factories import OPERATOR, claim, drain, events, make_run, make_site, outputs, tickets
from tests.support.lane_runs import again, codes, has_place, in_lane, make_lane, states

pytestmark = pytest.mark.django_db(transaction=True)


def reason_of(run: AutomationRun) -> gate.Reason:
    return gate.explain(again(run))[0]


@pytest.mark.req("S-01")
@pytest.mark.req("S-05")
@pytest.mark.req("A-31")
@pytest.mark.parametrize("policy", Lane.Policy.values)
def test_a_run_starts_when_the_one_before_it_has_ended(policy):
    first, second, third = in_lane(make_lane("acme", policy=policy), 3)
    assert states(first, second, third) == ["running", "pending", "pending"]
    assert reason_of(second).sentence == f"It waits for run {str(first.pk)[:8]} (numbers, running) of lane acme."

    drain(first)
    assert states(first, second, third) == ["completed", "running", "pending"]
    assert not has_place(first)
    assert [event.actor for event in events(second, "start")] == ["system"]

    lifecycle.cancel(second.pk, actor=OPERATOR)
    assert states(second, third) == ["cancelled", "running"]
    assert len(outputs(drain(third))) == 1


@pytest.mark.req("S-03")
@pytest.mark.req("S-04")
@pytest.mark.req("S-08")
@pytest.mark.req("S-13")
@pytest.mark.req("S-34")
@pytest.mark.req("A-32")
def test_a_parked_run_lets_an_urgent_one_start_and_waits_for_it_when_it_is_resumed():
    site = make_lane("acme", policy=Lane.Policy.SKIP_PARKED)
    (parked,) = in_lane(site, items=6)
    assert claim(parked) is not None, "it is in the middle of its work"
    lifecycle.pause(parked.pk, actor=OPERATOR, reason="a question to the customer")

    (urgent,) = in_lane(site, priority=1)
    assert states(parked, urgent) == ["running", "running"]
    assert codes(urgent) == []
    assert (has_place(parked), has_place(urgent)) == (False, True)

    lifecycle.resume(parked.pk, actor=OPERATOR)
    assert claim(parked) is None, "nothing more of it begins"
    assert claim(urgent) is not None, "and the other is not interrupted"
    assert codes(parked) == ["lane"]
    assert reason_of(parked).sentence == f"It waits for run {str(urgent.pk)[:8]} (numbers, running) of lane acme."

    holds.place(["lane:acme"], kind=Hold.Kind.FREEZE, actor=OPERATOR, reason="the shop is broken")
    assert (claim(parked), claim(urgent)) == (None, None)
    assert (codes(parked), codes(urgent)) == (["freeze", "lane"], ["freeze"])
    holds.release(["lane:acme"], kind=Hold.Kind.FREEZE, actor=OPERATOR)

    lifecycle.cancel(urgent.pk, actor=OPERATOR)
    settle_leases(urgent)
    assert states(urgent) == ["cancelled"]
    assert has_place(parked)
    assert tickets(parked) > 0, "it is dispatched at once"
    settle_leases(parked)
    assert len(outputs(drain(parked))) == 6
    assert [event.action for event in events(parked, "place_given")] == ["place_given"]


def settle_leases(run: AutomationRun) -> None:
    """Give back what the test has leased and does not work on."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_workslice SET lease_expires_at = now() - interval '1 minute' "
            "WHERE lease_token IS NOT NULL AND stage_run_id IN (SELECT id FROM automation_stagerun WHERE run_id = %s)",
            [run.pk],
        )
    reconciler.reap()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE automation_workslice SET lost_at = NULL, expiries = 0")


@pytest.mark.req("S-19")
@pytest.mark.req("A-35")
def test_in_a_strict_lane_a_paused_run_keeps_its_place_however_long():
    first, second = in_lane(make_lane("acme"), 2)

    lifecycle.pause(first.pk, actor=OPERATOR)
    reconciler.reconcile()

    assert states(first, second) == ["running", "pending"]
    assert reason_of(second).sentence == f"It waits for run {str(first.pk)[:8]} (numbers, paused) of lane acme."
    lifecycle.resume(first.pk, actor=OPERATOR)
    assert codes(first) == []
    drain(first)
    assert states(second) == ["running"]


@pytest.mark.req("S-19")
@pytest.mark.req("W-51")
@pytest.mark.parametrize(("policy", "starts"), [("strict", False), ("skip_parked", True)])
def test_a_run_that_is_paused_before_it_starts_is_passed_over_only_where_parked_runs_are(policy, starts):
    first, second, third = in_lane(make_lane(policy=policy), 3)
    lifecycle.pause(second.pk, actor=OPERATOR)

    drain(first)

    assert states(second, third) == ["pending", "running" if starts else "pending"]
    lifecycle.resume(second.pk, actor=OPERATOR)
    drain(third if starts else second)
    assert states(second, third) == (["running", "completed"] if starts else ["completed", "running"])


@pytest.mark.req("S-20")
@pytest.mark.parametrize("policy", Lane.Policy.values)
def test_runs_start_by_priority_then_by_age(policy):
    site = make_lane(policy=policy)
    first = in_lane(site, 1)[0]
    late, later = in_lane(site, 2, priority=4)
    normal = in_lane(site, 1)[0]
    urgent = in_lane(site, 1, priority=1)[0]

    started = []
    running = first
    while True:
        drain(running)
        found = AutomationRun.objects.filter(lifecycle=Lifecycle.RUNNING).first()
        if found is None:
            break
        started.append(found.pk)
        running = found

    assert started == [urgent.pk, normal.pk, late.pk, later.pk]


@pytest.mark.req("S-23")
def test_other_lanes_are_not_affected():
    one, other = make_lane("one"), make_lane("other")
    first, second = in_lane(one, 2)
    holds.place(["lane:one"], kind=Hold.Kind.FREEZE, actor=OPERATOR, reason="broken")

    (free,) = in_lane(other)

    assert states(first, second, free) == ["running", "pending", "running"]
    assert codes(free) == []
    assert claim(free) is not None


@pytest.mark.req("S-09")
@pytest.mark.req("W-46")
def test_nothing_starts_in_a_frozen_lane_and_the_order_stays():
    site = make_lane("acme", policy=Lane.Policy.SKIP_PARKED)
    holds.place(["lane:acme"], kind=Hold.Kind.FREEZE, actor=OPERATOR, reason="broken")
    first, second = in_lane(site, 2)
    lifecycle.pause(first.pk, actor=OPERATOR)
    reconciler.reconcile()
    assert states(first, second) == ["pending", "pending"]
    lifecycle.resume(first.pk, actor=OPERATOR)

    holds.release(["lane:acme"], kind=Hold.Kind.FREEZE, actor=OPERATOR)

    assert states(first, second) == ["running", "pending"]


def test_a_run_that_something_else_keeps_keeps_its_turn():
    first, second, third = in_lane(make_lane("acme"), 2) + in_lane(make_lane("beta"), 1)
    other = make_run("few", items=2, site=first.site)
    holds.place(["pipeline:numbers"], actor=OPERATOR, reason="a bug")
    drain(third)

    lifecycle.cancel(first.pk, actor=OPERATOR)
    reconciler.reconcile()

    assert states(first, second, other) == ["cancelled", "pending", "pending"]
    assert codes(other) == ["lane"]
    assert "(numbers, pending)" in reason_of(other).sentence
    holds.release(["pipeline:numbers"], actor=OPERATOR)
    assert states(second, other) == ["running", "pending"]


def test_a_wider_lane_has_more_runs_at_work_and_a_narrower_one_interrupts_nobody():
    site = make_lane("acme", width=2)
    first, second, third, fourth = in_lane(site, 4)
    assert states(first, second, third, fourth) == ["running", "running", "pending", "pending"]
    assert reason_of(third).sentence.startswith("It waits for a place in lane acme, which has 2: before it are runs ")

    lanes.change("acme", width=3, actor=OPERATOR)
    assert states(third, fourth) == ["running", "pending"]

    lanes.change("acme", width=1, actor=OPERATOR)
    assert [claim(run) is not None for run in (first, second, third)] == [True, True, True]
    lifecycle.cancel(fourth.pk, actor=OPERATOR)
    (last,) = in_lane(site)
    for run in (first, second):
        settle_leases(run)
        drain(run)
        assert states(last) == ["pending"]
    settle_leases(third)
    drain(third)
    assert states(last) == ["running"]
    assert [event.after for event in _events_of_lane("acme")][-1] == {"policy": "strict", "width": 1}


def _events_of_lane(name):
    return list(ControlEvent.objects.filter(scope=f"lane:{name}", action="lane_changed").order_by("pk"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"width": 0}, "expected a width of 1 to 10,000, got: 0"),
        ({"width": 10_001}, "expected a width of 1 to 10,000, got: 10001"),
        ({"policy": "fair"}, "expected a policy of strict or skip_parked, got: fair"),
    ],
)
def test_a_lane_that_cannot_be_is_refused(given, told):
    with pytest.raises(LaneRefused, match=told):
        lanes.change("acme", actor=OPERATOR, **given)
    assert not Lane.objects.exists()


def test_a_change_of_policy_frees_the_place_of_a_run_that_is_paused():
    first, second = in_lane(make_lane("acme"), 2)
    lifecycle.pause(first.pk, actor=OPERATOR)
    assert states(second) == ["pending"]

    lanes.change("acme", policy=Lane.Policy.SKIP_PARKED, actor=OPERATOR)

    assert (states(second), has_place(first), has_place(second)) == (["running"], False, True)


@pytest.mark.req("W-52")
def test_the_wait_for_a_place_does_not_count_as_working_time():
    site = make_lane(policy=Lane.Policy.SKIP_PARKED)
    (parked,) = in_lane(site, timeout_seconds=30.0)
    lifecycle.pause(parked.pk, actor=OPERATOR)
    (other,) = in_lane(site)
    lifecycle.resume(parked.pk, actor=OPERATOR)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE automation_automationrun SET started_at = now() - interval '1 hour' WHERE id = %s", [parked.pk]
        )
        cursor.execute("UPDATE automation_standstill SET since = now() - interval '1 hour'")
        cursor.execute("UPDATE pause_manager_hold SET created_at = now() - interval '1 hour'")

    assert durations_of([again(parked)])[parked.pk].active < 5
    assert timeouts.fail_overdue() == 0
    drain(other)
    assert drain(parked).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("S-07")
def test_what_a_process_that_died_did_not_do_is_done_by_the_reconciler():
    first, second = in_lane(make_lane(), 2)
    AutomationRun.objects.filter(pk=first.pk).update(
        lifecycle=Lifecycle.COMPLETED, finished_at=first.created_at, lane_seat_at=None
    )
    assert states(second) == ["pending"]

    reconciler.reconcile()

    assert states(second) == ["running"]


def test_a_verb_starts_only_some_of_many_and_the_reconciler_the_rest(monkeypatch):
    monkeypatch.setattr(lanes, "AT_ONCE", 2)
    waiting = in_lane(make_lane("acme"), 6, items=1)[1:]

    lanes.change("acme", width=10, actor=OPERATOR)
    assert states(*waiting).count("running") == 2

    lanes.fill_all()
    assert states(*waiting).count("running") == 5


@pytest.mark.req("S-18")
@pytest.mark.parametrize("given", [None, "", "no-such-id", 7, uuid4()])
def test_what_is_no_run_waits_for_nobody(given):
    assert gate.lane_has_active_run(given) is False


def test_lane_has_active_run_says_what_explain_says():
    first, second = in_lane(make_lane(), 2)

    assert (gate.lane_has_active_run(first.pk), gate.lane_has_active_run(str(second.pk))) == (False, True)
    assert gate.blocked([again(second)]) == {second.pk}


def test_the_row_of_a_lane_is_made_with_its_first_run():
    site = make_site("acme")
    Lane.objects.all().delete()

    lanes.ensure(site.slug)
    lanes.ensure(site.slug)

    assert list(Lane.objects.values_list("name", "policy", "width")) == [("acme", "strict", 1)]


@pytest.mark.req("S-02")
@pytest.mark.req("S-06")
@pytest.mark.req("S-32")
@pytest.mark.parametrize(
    ("what", "is_active"), [("nothing", True), ("a label", True), ("a hold", False), ("a cancel", False)]
)
def test_only_what_is_neither_ended_nor_held_keeps_others(what, is_active):
    site = make_lane(policy=Lane.Policy.SKIP_PARKED)
    (first,) = in_lane(site)
    (second,) = in_lane(site, start=False)
    if what == "a label":
        AutomationRun.objects.filter(pk=first.pk).update(params={"paused": True, "status": "parked"})
    elif what == "a hold":
        lifecycle.pause(first.pk, actor=OPERATOR)
        assert claim(first) is None
    elif what == "a cancel":
        lifecycle.cancel(first.pk, actor=OPERATOR)

    assert gate.lane_has_active_run(second.pk) == is_active
    assert lifecycle.start_run(second.pk, actor=OPERATOR).lifecycle == ("pending" if is_active else "running")


@pytest.mark.req("M-24")
def test_a_run_held_by_hand_is_told_apart_from_one_that_waits_for_another():
    site = make_lane("acme", width=3)
    (first,) = in_lane(site)
    (held,) = in_lane(site)
    (dependent,) = in_lane(site, after=[first.pk])
    lifecycle.pause(held.pk, actor=OPERATOR, reason="the contract is not signed")

    assert (codes(held), codes(dependent)) == (["operator"], ["dependency"])
    assert reason_of(held).sentence == "This run was paused by olga: the contract is not signed."
    hold = Hold.objects.get(scope=held.scope)
    lifecycle.resume(held.pk, actor=OPERATOR, reason="signed")
    hold.refresh_from_db()
    assert (hold.reason, hold.release_reason) == ("the contract is not signed", "signed")
