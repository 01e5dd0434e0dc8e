"""The adaptive mode."""

from __future__ import annotations

from pause_manager.capacity import Adaptation, NodeState, Policy, adapt, judge, should_pause
from pause_manager.capacity.needs import Needs
from tests.support.node_views import NOW, node

POLICY = Policy(adaptive=True)


def threshold(adaptation):
    assert adaptation
    return adaptation.pause_below


def test_it_is_off_by_default():
    assert adapt(None, Policy(), 0.0, out_of_memory_at=[0.0]) is None


def test_out_of_memory_or_repeated_contention_raise_the_threshold():
    start = adapt(None, POLICY, 0.0)

    assert start
    assert start.pause_below == 0.20
    assert threshold(adapt(start, POLICY, 100.0, out_of_memory_at=[50.0])) == 0.25
    assert threshold(adapt(start, POLICY, 100.0, contended_at=[50.0, 60.0])) == 0.25
    assert adapt(start, POLICY, 100.0, contended_at=[50.0]) is start


def test_trouble_counts_once_and_only_while_it_is_recent():
    raised = adapt(Adaptation(0.20, 0.0), POLICY, 100.0, out_of_memory_at=[50.0])

    assert adapt(raised, POLICY, 101.0, out_of_memory_at=[50.0]) is raised
    assert threshold(adapt(Adaptation(0.20, 0.0), POLICY, 9000.0, contended_at=[50.0, 60.0])) == 0.20


def test_calm_lowers_it_step_by_step():
    after = adapt(Adaptation(0.25, 0.0), POLICY, POLICY.adaptive_calm_seconds)

    assert after
    assert after.pause_below == 0.20
    assert after.sentence == "lowered after 21600 s calm: from 25% to 20%"


def test_it_stays_within_its_bounds():
    high, low = Adaptation(0.20, 0.0), Adaptation(0.20, 0.0)
    for number in range(1, 30):
        now = number * POLICY.adaptive_calm_seconds
        high = adapt(high, POLICY, now, out_of_memory_at=[now - 1]) or high
        low = adapt(low, POLICY, now) or low

    assert (low.pause_below, high.pause_below) == (0.10, 0.50)
    assert "stays at its bound of 50%" in high.sentence


def test_decisions_explain_the_threshold_they_were_made_by():
    why = "raised after 2 contentions within 600 s: from 20% to 25%"
    view = node(cores=100, foreign=76, pause_below=0.25, pause_below_reason=why)

    found = should_pause([view], Needs(), POLICY, NOW)
    _, judgement = judge(view, NodeState(), POLICY, NOW)

    assert found.sentence.endswith(f"only with 25 cores free ({why}).")
    assert judgement.sentence.endswith(f"it stops below 25% and resumes at 35% ({why}).")
