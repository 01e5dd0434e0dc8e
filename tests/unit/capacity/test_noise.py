"""What strangers burn in passing: a quarter of a core, or 2 % of the cores, is held against nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import (
    NodeState,
    Policy,
    RampState,
    Waiting,
    headroom,
    how_many_fit,
    judge,
    place,
    plan_resume,
    should_pause,
)
from pause_manager.capacity.needs import Needs
from tests.support.node_views import NOW, allocation, fleets, needs, node

POLICY = Policy()


def slack(cores: float) -> float:
    return max(POLICY.cpu_slack_cores, POLICY.cpu_slack_share * cores)


def filled(view, needs):
    """Loops started one after the other, each a while ago, until no more is admitted."""
    while place([view], needs, POLICY, NOW):
        one = allocation(f"r{len(view.allocations)}", cpu=needs.cpu, started_at=NOW - 60 + len(view.allocations))
        view = replace(view, allocations=(*view.allocations, one))
    return view


def yields(view, seconds=60, state=None):
    """What is told to yield while ``view`` stays as it is."""
    state = state or NodeState()
    told: list[str] = []
    for second in range(seconds):
        now = NOW + second
        state, judgement = judge(replace(view, sampled_at=now), state, POLICY, now)
        told += judgement.yields
    return told


@pytest.mark.req("P-02", "P-04")
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_a_small_machine_with_some_noise_runs_a_loop_for_each_core(cores):
    quiet = node(cores=cores, foreign=0.1)

    full = filled(quiet, Needs(cpu=1))

    assert len(full.allocations) == cores
    assert not should_pause([replace(full, allocations=full.allocations[1:])], Needs(cpu=1), POLICY, NOW).should_pause
    assert yields(full) == []


@given(st.integers(1, 128), st.integers(1, 16), st.floats(0, 1))
def test_what_fits_without_strangers_fits_with_noise_and_nobody_yields(cores, pieces, part):
    """For however many loops declare all the cores, as far as the threshold admits them: five are always admitted."""
    wanted = Needs(cpu=cores * 1000 // pieces / 1000)
    alone = filled(node(cores=cores), wanted)

    noisy = filled(node(cores=cores, foreign=part * slack(cores)), wanted)

    assert len(noisy.allocations) == len(alone.allocations) >= min(pieces, 5)
    assert yields(noisy, 20) == []


@given(st.integers(1, 64), st.lists(st.floats(0, 1), min_size=30, max_size=60))
def test_noise_that_comes_and_goes_leaves_no_swing(cores, parts):
    state = NodeState()
    for second, part in enumerate(parts):
        view = node(cores=cores, foreign=part * slack(cores), sampled_at=NOW + second)
        state, judgement = judge(view, state, POLICY, NOW + second)
        assert not judgement.is_saturated

    assert state.margin(node(cores=cores), POLICY) == {}
    assert how_many_fit([node(cores=cores)], Needs(cpu=cores), 1, POLICY, NOW, states={"a": state}) == 1


@pytest.mark.req("P-03")
@given(st.integers(1, 200), st.floats(0.01, 0.7), st.integers(-3, 3))
def test_beyond_the_slack_every_thousandth_of_a_core_counts(cores, threshold, off):
    foreign = round(cores * (1 - threshold), 3) + off / 1000
    view = node(cores=cores, foreign=foreign)
    policy = Policy(pause_below=threshold, resume_above=1.0)

    free = round(cores * 1000) - round(foreign * 1000)
    expected = free * 1_000_000 < round(threshold * 1_000_000) * cores * 1000
    assert should_pause([view], Needs(), policy, NOW).should_pause == expected


def test_just_above_the_slack_strangers_are_given_way():
    full = filled(node(cores=2, foreign=0.25), Needs(cpu=1))

    assert len(full.allocations) == 2
    assert yields(replace(full, foreign_cores=0.251)) == ["r1"]


@given(fleets(most=1), st.lists(needs, min_size=1, max_size=8))
def test_own_load_alone_never_pauses_own_work(fleet, wanted):
    view = replace(fleet[0], foreign_cores=0.0, free_memory_mib=0, own_memory_mib=64_000)
    allocations = [
        allocation(str(n), cpu=one.cpu, memory_mib=one.memory_mib, started_at=0.0) for n, one in enumerate(wanted)
    ]

    assert yields(replace(view, allocations=tuple(allocations)), 20) == []


def test_a_stranger_that_does_not_stay_keeps_no_parked_work_back():
    """A second of load makes nobody yield, so no room is kept for the next; one that lasts as long as the dwell is."""
    for lasting, expected in ((4, 1), (6, 0)):
        state = NodeState()
        for second in range(60):
            view = node(cores=4, foreign=1.0 if 10 <= second < 10 + lasting else 0.0, sampled_at=NOW + second)
            state, _ = judge(view, state, POLICY, NOW + second)
        after = node(cores=4, sampled_at=NOW + 60, allocations=[allocation("r", cpu=2)])
        entry = Waiting("a", Needs(cpu=2), NOW)

        plan, _ = plan_resume([entry], [after], POLICY, RampState(), NOW + 60, {"a": state})

        assert len(plan) == expected
        assert headroom(after, NOW + 60).cpu_millicores == 2000
