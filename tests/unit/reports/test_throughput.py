"""Throughput from slices: what was done is spread over the time of work, and never over a stop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from automation.reports.throughput import MOST_STEPS, Span, Step, steps_of

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return BEGIN + timedelta(seconds=second)


def done(steps: list[Step]) -> list[float]:
    return [round(step.processed, 3) for step in steps]


def test_items_are_spread_evenly_over_the_work_before_the_end() -> None:
    steps = steps_of([Span(at(20), busy=10, processed=30, failed=10)], [], BEGIN, at(25))

    assert done(steps) == [0, 0, 15, 15, 0]
    assert [round(step.failed, 3) for step in steps] == [0, 0, 5, 5, 0]
    assert [step.since for step in steps] == [at(0), at(5), at(10), at(15), at(20)]


def test_nothing_is_done_while_it_is_stopped() -> None:
    stops = [(at(10), at(20)), (at(15), at(30))]

    steps = steps_of([Span(at(35), busy=10, processed=10, failed=0)], stops, BEGIN, at(40))

    assert done(steps) == [0, 5, 0, 0, 0, 0, 5, 0]


def test_a_stop_that_lasts_is_no_work_until_the_end() -> None:
    never = datetime.max.replace(tzinfo=UTC)

    steps = steps_of([Span(at(10), busy=10, processed=10, failed=0)], [(at(10), never)], BEGIN, at(30))

    assert done(steps) == [5, 5, 0, 0, 0, 0]


def test_what_took_no_time_counts_where_it_ended() -> None:
    assert done(steps_of([Span(at(7), busy=0, processed=3, failed=0)], [], BEGIN, at(12))) == [0, 3, 0]
    assert done(steps_of([Span(at(12), busy=0, processed=3, failed=0)], [], BEGIN, at(12))) == [0, 0, 3]


def test_a_long_life_has_no_more_steps_than_can_be_seen() -> None:
    steps = steps_of([], [], BEGIN, BEGIN + timedelta(days=9))

    assert len(steps) <= MOST_STEPS
    assert steps[-1].until == BEGIN + timedelta(days=9)
    assert {step.seconds for step in steps[:-1]} == {14_400}


moments = st.floats(0, 500, allow_nan=False)


@given(
    spans=st.lists(st.tuples(moments, moments, st.integers(0, 100)), max_size=8),
    stops=st.lists(st.tuples(moments, moments).map(sorted), max_size=4),
)
def test_every_item_counts_once_whatever_stopped_the_run(
    spans: list[tuple[float, float, int]], stops: list[list[float]]
) -> None:
    of = [Span(at(end), busy, processed, 0) for end, busy, processed in spans]

    steps = steps_of(of, [(at(since), at(until)) for since, until in stops], BEGIN, at(500))

    assert abs(sum(step.processed for step in steps) - sum(one.processed for one in of)) < 1e-3
    assert all(step.processed >= 0 for step in steps)
