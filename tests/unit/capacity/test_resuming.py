"""Which parked work goes on."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import NodeState, Placement, Policy, RampState, Waiting, fits, judge, plan_resume
from pause_manager.capacity.needs import Needs
from tests.support.node_views import NOW, allocation, fleets, gpu, needs, node, with_load

POLICY = Policy()
WIDE = RampState(allowance=1000)


def waiting(ref, *, priority=3, paused_at=0.0, resume_after=None, **needs):
    return Waiting(str(ref), Needs(**needs), paused_at, priority, resume_after)


def refs(plan):
    return [entry.ref for entry, _ in plan]


@pytest.mark.req("P-22")
def test_priority_first_then_the_oldest():
    entries = [
        waiting("young", paused_at=NOW - 1),
        waiting("old", paused_at=NOW - 9),
        waiting("urgent", paused_at=NOW, priority=1),
        waiting("later", paused_at=NOW - 99, priority=5),
    ]

    plan, _ = plan_resume(entries, [node()], POLICY, WIDE, NOW)

    assert refs(plan) == ["urgent", "old", "young", "later"]


@pytest.mark.req("P-18")
def test_an_entry_is_not_sent_before_it_is_due():
    entries = [waiting("a", resume_after=NOW + 1), waiting("b", resume_after=NOW), waiting("c")]

    plan, _ = plan_resume(entries, [node()], POLICY, WIDE, NOW)

    assert sorted(refs(plan)) == ["b", "c"]


@pytest.mark.req("P-38")
def test_one_freed_place_is_given_once():
    entries = [waiting(n, cpu=1, gpu_memory_mib=20_000) for n in range(10)]

    plan, _ = plan_resume(entries, [node(cores=96, gpus=[gpu()])], POLICY, WIDE, NOW)

    assert [(entry.ref, found.gpus) for entry, found in plan] == [("0", ("GPU-0",))]


@pytest.mark.req("P-39")
def test_parked_work_needs_the_higher_threshold():
    for foreign, expected in ((7.0, 1), (7.1, 0)):
        plan, _ = plan_resume([waiting("a")], [node(cores=10, foreign=foreign)], POLICY, WIDE, NOW)
        assert len(plan) == expected


def test_saturated_and_cooling_nodes_take_none():
    for state in (NodeState(is_saturated=True), NodeState(cooldown_until=NOW + 1)):
        assert not plan_resume([waiting("a")], [node()], POLICY, WIDE, NOW, {"a": state})[0]
    assert plan_resume([waiting("a")], [node()], POLICY, WIDE, NOW, {"a": NodeState(cooldown_until=NOW)})[0]


def test_the_ramp_doubles_while_healthy_and_begins_again_under_pressure():
    entries = [waiting(n) for n in range(100)]
    ramp, sent = RampState(), []
    states = {"a": NodeState()}
    for poll in range(8):
        now = NOW + 10 * poll
        if poll == 4:
            states = {"a": NodeState(contended_at=now - 3)}
        plan, ramp = plan_resume(entries, [node(cores=200, sampled_at=now)], POLICY, ramp, now, states)
        sent.append(len(plan))

    assert sent == [1, 2, 4, 8, 1, 2, 4, 8]


def test_no_room_begins_the_ramp_again():
    _, ramp = plan_resume([waiting("a")], [node(foreign=8)], POLICY, RampState(allowance=8), NOW)

    assert ramp.allowance == 1


def test_small_work_goes_past_large_that_fits_nowhere():
    entries = [waiting("large", cpu=8, priority=1), waiting("small", cpu=1)]

    plan, _ = plan_resume(entries, [node(foreign=1)], POLICY, WIDE, NOW)

    assert refs(plan) == ["small"]


def test_what_waited_long_for_a_whole_node_gets_one_kept_free():
    fleet = [node(name, allocations=[allocation(name, cpu=busy)]) for name, busy in (("a", 4), ("b", 2))]
    long_ago = NOW - POLICY.reserve_after_seconds
    entries = [waiting("large", cpu=8, paused_at=long_ago, priority=1), waiting("small", cpu=1, paused_at=NOW)]

    plan, ramp = plan_resume(entries, fleet, POLICY, WIDE, NOW)

    assert ramp.reserved_nodes == ("b",)
    assert [(entry.ref, found.node) for entry, found in plan] == [("small", "a")]
    emptied = [fleet[0], replace(fleet[1], allocations=())]
    plan, _ = plan_resume(entries, emptied, POLICY, replace(ramp, allowance=9), NOW)
    assert (plan[0][0].ref, plan[0][1].node) == ("large", "b")


def test_a_low_priority_entry_is_not_passed_for_ever():
    """One place every poll, and every poll a new urgent entry: ageing gets the old one its turn."""
    entries = [waiting("patient", priority=5, paused_at=0)]
    for poll in range(2000):
        now = 10.0 * poll
        entries.append(waiting(poll, priority=1, paused_at=now))
        plan, _ = plan_resume(entries, [node(cores=1, sampled_at=now)], POLICY, RampState(), now)
        entries.remove(plan[0][0])
        if plan[0][0].ref == "patient":
            break
    else:
        raise AssertionError("it never had its turn")

    assert now <= 5 * POLICY.ageing_seconds


def test_where_strangers_swing_parked_work_leaves_them_their_room():
    state = NodeState()
    for second in range(300):
        foreign = 75.0 if (second // 30) % 2 else 65.0
        view = node(cores=100, foreign=foreign, sampled_at=float(second))
        state, _ = judge(view, state, POLICY, float(second))
    trough = replace(view, foreign_cores=65.0, sampled_at=300.0)

    fitting, _ = plan_resume([waiting("a", cpu=25)], [trough], POLICY, WIDE, 300.0, {"a": state})
    too_big, _ = plan_resume([waiting("a", cpu=26)], [trough], POLICY, WIDE, 300.0, {"a": state})

    assert (len(fitting), len(too_big)) == (1, 0)


def test_work_that_needs_a_whole_node_goes_on_as_soon_as_strangers_have_left():
    state, _ = judge(node(cores=1, foreign=1, sampled_at=0.0), NodeState(), POLICY, 0.0)
    left = node(cores=1)
    for second in range(16):
        state, _ = judge(replace(left, sampled_at=1.0 + second), state, POLICY, 1.0 + second)

    plan, _ = plan_resume([waiting("a", cpu=1)], [replace(left, sampled_at=17.0)], POLICY, WIDE, 17.0, {"a": state})

    assert refs(plan) == ["a"]


@given(fleets(), st.lists(st.tuples(needs, st.integers(1, 5)), max_size=15), st.integers(1, 20))
def test_a_plan_never_oversubscribes_and_never_sends_too_many(fleet, wanted, allowance):
    entries = [Waiting(str(n), one, 0.0, priority) for n, (one, priority) in enumerate(wanted)]
    views = {view.name: view for view in fleet}

    plan, _ = plan_resume(entries, fleet, POLICY, RampState(allowance), NOW)

    assert len(plan) <= allowance
    assert len(set(refs(plan))) == len(plan)
    for entry, found in plan:
        assert fits(views[found.node], entry.needs, NOW)
        views[found.node] = with_load(views[found.node], entry.ref, entry.needs, found.gpus, NOW)


@given(fleets(), needs, st.lists(st.integers(1, 5), min_size=1, max_size=15))
def test_among_equal_needs_nobody_goes_before_one_more_urgent(fleet, one, priorities):
    entries = [Waiting(str(n), one, NOW, priority) for n, priority in enumerate(priorities)]

    plan, _ = plan_resume(entries, fleet, POLICY, WIDE, NOW)

    assert [entry.priority for entry, _ in plan] == sorted(priorities)[: len(plan)]


def test_ten_times_the_nodes_and_entries_take_ten_times_the_work():
    few, plan = calls_of_a_plan(nodes=100, entries=10_000)
    many, larger_plan = calls_of_a_plan(nodes=1_000, entries=100_000)

    assert len(plan) == len(larger_plan) == 64
    assert many < 12 * few


def calls_of_a_plan(nodes: int, entries: int) -> tuple[int, list[tuple[Waiting, Placement]]]:
    """How many functions one plan calls, and the plan: the machine's speed plays no part."""
    kinds = [Needs(cpu=cpu, gpu_memory_mib=mib) for cpu in (1, 4, 8) for mib in (0, 4_000, 24_000)]
    fleet = [
        node(f"n{n}", cores=96, foreign=(n * 37) % 90, gpus=[gpu(k, free=(n * k * 997) % 24_000) for k in range(8)])
        for n in range(nodes)
    ]
    waiting = [Waiting(str(n), kinds[n % 9], NOW - n % 9000, 1 + n % 5) for n in range(entries)]
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        plan, _ = plan_resume(waiting, fleet, POLICY, RampState(64), NOW)
    finally:
        sys.setprofile(None)
    return calls, plan
