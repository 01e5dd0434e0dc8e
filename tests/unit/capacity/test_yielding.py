"""One node over time."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import Judgement, NodeState, Policy, judge
from pause_manager.capacity.foreign import CPU
from pause_manager.capacity.yielding import gives
from tests.support.node_views import allocation, gpu, node

POLICY = Policy()
DWELL = POLICY.contended_dwell_seconds


def watch(views, *, policy=POLICY, state=None):
    """Judge a view a second; gives the last state and all judgements. Loops that must yield are gone at once."""
    state = state or NodeState()
    judgements: list[tuple[float, Judgement]] = []
    gone: set[str] = set()
    for second, view in views:
        allocations = tuple(one for one in view.allocations if one.ref not in gone)
        state, judgement = judge(replace(view, sampled_at=second, allocations=allocations), state, policy, second)
        gone.update(judgement.yields)
        judgements.append((second, judgement))
    return state, judgements


def every_second(start, seconds, view):
    return [(float(start + second), view) for second in range(seconds)]


def yields(judgements):
    return [(second, judgement.yields) for second, judgement in judgements if judgement.yields]


def test_loops_give_back_after_the_dwell_and_not_before():
    view = node(cores=8, foreign=4, allocations=[allocation("r", cpu=6)])

    _, judgements = watch(every_second(100, 20, view))

    assert yields(judgements) == [(100 + DWELL, ("r",))]
    assert judgements[5][1].code == "contended"
    assert "other processes need 4.0 cores and our work reserved 6.0" in judgements[5][1].sentence


def test_a_short_burst_makes_nobody_yield():
    calm = node(cores=8, allocations=[allocation("r", cpu=6)])
    burst = replace(calm, foreign_cores=6.0)

    _, judgements = watch(
        [(100.0 + s, burst if s % 7 < 4 else calm) for s in range(60)],
    )

    assert not yields(judgements)


def test_own_load_alone_pauses_nothing():
    crowded = node(
        cores=4, allocations=[allocation(str(n), cpu=2, memory_mib=30_000) for n in range(6)], own_memory_mib=64_000
    )
    crowded = replace(crowded, free_memory_mib=0)

    _, judgements = watch(every_second(100, 60, crowded))

    assert not yields(judgements)
    assert {judgement.code for _, judgement in judgements} == {"saturated"}


def test_low_priority_yields_first_then_the_last_started():
    allocations = [
        allocation("old", cpu=2, started_at=10),
        allocation("new", cpu=2, started_at=50),
        allocation("low", cpu=2, started_at=5, priority=5),
        allocation("high", cpu=2, started_at=60, priority=1),
    ]

    for foreign, expected in ((2, {"low"}), (4, {"low", "new"}), (6, {"low", "new", "old"})):
        _, judgements = watch(every_second(100, 10, node(cores=8, foreign=foreign, allocations=allocations)))
        assert [set(refs) for _, refs in yields(judgements)] == [expected]


def test_all_yield_when_strangers_leave_less_than_the_threshold():
    allocations = [allocation(str(n), cpu=0.5) for n in range(4)]

    _, judgements = watch(every_second(100, 10, node(cores=8, foreign=6.5, allocations=allocations)))

    assert [sorted(refs) for _, refs in yields(judgements)] == [["0", "1", "2", "3"]]


def test_none_yields_before_it_has_started():
    allocations = [allocation("sent", cpu=6, started_at=0, is_sent=True)]

    _, judgements = watch(every_second(101, 30, node(cores=8, foreign=5, allocations=allocations)))

    assert yields(judgements) == []


def test_of_equal_priority_those_that_had_their_minimum_run_go_first():
    allocations = [
        allocation("older", cpu=2, started_at=10),
        allocation("old", cpu=2, started_at=50),
        allocation("young", cpu=2, started_at=95),
        allocation("low", cpu=2, started_at=99, priority=4),
    ]

    for foreign, expected in ((2, {"low"}), (4, {"low", "old"}), (6, {"low", "old", "older"})):
        _, judgements = watch(every_second(100, 10, node(cores=8, foreign=foreign, allocations=allocations)))
        assert [set(refs) for _, refs in yields(judgements)] == [expected]


@pytest.mark.req("P-36")
def test_a_loop_that_has_only_started_gives_way_within_the_dwell_like_any_other():
    views = [(100.0, node(cores=8))]
    views += every_second(101, 20, node(cores=8, foreign=5, allocations=[allocation("young", cpu=6, started_at=100.5)]))

    _, judgements = watch(views)

    assert yields(judgements) == [(101 + DWELL, ("young",))]


def test_only_loops_on_the_contended_gpu_yield():
    allocations = [
        allocation("here", gpu_memory_mib=16_000, gpus=[0]),
        allocation("there", gpu_memory_mib=16_000, gpus=[1], priority=5),
    ]
    gpus = [gpu(0, free=0, own_mib=10_000), gpu(1, free=8_000, own_mib=16_000)]

    _, judgements = watch(every_second(100, 10, node(gpus=gpus, allocations=allocations)))

    assert yields(judgements) == [(100 + DWELL, ("here",))]


def test_loops_already_told_are_not_told_again_and_count_as_gone():
    view = node(cores=8, foreign=4, allocations=[allocation("a", cpu=3, priority=5), allocation("b", cpu=3)])
    state = NodeState()
    told: list[str] = []
    for second in range(100, 130):
        state, judgement = judge(replace(view, sampled_at=second), state, POLICY, float(second))
        told += judgement.yields

    assert told == ["a"]
    assert state.yielding == (("a", 100 + DWELL),)


def test_what_never_asks_is_left_alone_and_counts():
    allocations = [
        allocation("deaf", cpu=3, priority=5, can_yield=False),
        allocation("a", cpu=3),
        allocation("b", cpu=1, priority=1),
    ]

    _, judgements = watch(every_second(100, 10, node(cores=8, foreign=4, allocations=allocations)))
    _, alone = watch(every_second(100, 10, node(cores=8, foreign=6, allocations=allocations[:1])))

    assert yields(judgements) == [(100 + DWELL, ("a",))]
    assert judgements[-1][1].figures["usage"]["cpu"]["declared"] == 4000
    assert [one["ref"] for one in judgements[5][1].figures["runners_up"]] == ["b"]
    assert yields(alone) == []
    assert alone[-1][1].code == "contended"
    assert alone[-1][1].sentence.endswith("our work reserved 3.0 cores of 8.0 cores; none of it can yield.")


def test_others_go_in_the_stead_of_what_was_told_and_does_not_leave():
    view = node(cores=8, foreign=4, allocations=[allocation("a", cpu=3, priority=5), allocation("b", cpu=3)])
    state, told = NodeState(), []
    for second in range(100, 300):
        state, judgement = judge(replace(view, sampled_at=second), state, POLICY, float(second))
        told += [(second, ref) for ref in judgement.yields]

    patience = POLICY.yield_patience_seconds
    assert told == [(100 + DWELL, "a"), (100 + DWELL + patience + DWELL, "b")]


def test_a_decision_names_the_runners_up():
    allocations = [allocation("a", cpu=4, priority=5), allocation("b", cpu=4)]

    _, judgements = watch(every_second(100, 10, node(cores=8, foreign=2, allocations=allocations)))

    figures = next(judgement.figures for _, judgement in judgements if judgement.yields)
    assert [one["ref"] for one in figures["yields"]] == ["a"]
    assert [one["ref"] for one in figures["runners_up"]] == ["b"]
    assert figures["usage"]["cpu"] == {"total": 8000, "foreign": 2000, "declared": 8000}


@pytest.mark.req("P-39")
def test_a_saturated_node_takes_up_work_at_the_higher_threshold_after_the_dwell():
    state, _ = watch(every_second(0, 1, node(cores=10, foreign=8.1)))
    assert state.is_saturated

    state, _ = watch(every_second(1, 60, node(cores=10, foreign=7.1)), state=state)
    assert state.is_saturated

    state, _ = watch(every_second(61, 15, node(cores=10, foreign=7.0)), state=state)
    assert state.is_saturated
    state, judgements = watch(every_second(76, 1, node(cores=10, foreign=7.0)), state=state)
    assert not state.is_saturated
    assert judgements[0][1].has_changed


@pytest.mark.slow
@given(st.integers(2, 120), st.sampled_from((0.8, 0.7)), st.integers(0, 50))
def test_load_that_swings_by_five_percent_changes_nothing_twice(half, middle, phase):
    views = [
        (float(s), node(cores=100, foreign=100 * (middle + (0.05 if ((s + phase) // half) % 2 else -0.05))))
        for s in range(600)
    ]

    _, judgements = watch(views)

    turns = [judgement.is_saturated for _, judgement in judgements]
    assert sum(one != other for one, other in pairwise(turns)) <= 1


def test_an_unknown_node_takes_nothing_and_leaves_its_loops_alone():
    view = node(cores=8, foreign=8, allocations=[allocation("r", cpu=4)], sampled_at=0)

    state, judgement = judge(view, NodeState(contended_since=1.0), POLICY, 100.0)

    assert (judgement.code, judgement.is_saturated, judgement.yields) == ("unknown", True, ())
    assert state.contended_since is None


def test_repeated_contention_cools_down_longer_each_time():
    state, waits = NodeState(), []
    now = 100.0
    for number in range(4):
        view = node(cores=8, foreign=4, allocations=[allocation(f"r{number}", cpu=6, started_at=now - 60)])
        state, judgements = watch(every_second(now, 6, view), state=state)
        assert yields(judgements)
        waits.append(state.cooldown)
        now = state.cooldown_until + 20

    assert waits == [15, 30, 60, 120]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(0, 50)), min_size=1, max_size=7),
    st.floats(0, 12),
)
def test_just_enough_yields(shapes, foreign):
    allocations = [allocation(str(n), cpu=cpu, priority=p, started_at=at) for n, (cpu, p, at) in enumerate(shapes)]
    view = node(cores=16, foreign=foreign, allocations=allocations)
    declared = sum(cpu for cpu, _, _ in shapes)

    _, judgements = watch(every_second(100, 8, view))

    told = yields(judgements)
    missing = min(foreign, foreign + declared - 16)
    if missing < 0.001 or foreign <= 0.32:
        assert not told
        return
    gone = [one for one in allocations if one.ref in told[0][1]]
    assert sum(one.needs.cpu for one in gone) >= missing - 0.001
    for fewer in combinations(gone, len(gone) - 1):
        assert sum(gives(one, CPU, view) for one in fewer) < round(missing * 1000)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 12))
def test_among_equal_needs_nobody_yields_before_one_of_lower_priority(priorities, foreign):
    allocations = [allocation(str(n), cpu=2, priority=p) for n, p in enumerate(priorities)]

    _, judgements = watch(every_second(100, 8, node(cores=16, foreign=foreign, allocations=allocations)))

    for _, refs in yields(judgements):
        gone = [one.priority for one in allocations if one.ref in refs]
        stays = [one.priority for one in allocations if one.ref not in refs]
        assert min(gone) >= max(stays, default=0)
