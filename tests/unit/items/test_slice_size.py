"""How many items a slice has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automation.items import slicing
from automation.pipeline import GroupStage, Stage


def stage(**declared):
    return type("Declared", (Stage,), declared)


def group(**declared):
    return type("Declared", (GroupStage,), declared)


def test_a_declared_size_is_taken_as_it_is():
    assert slicing.slice_size(stage(slice_size=7), 1_000_000, 0.001) == 7


def test_at_a_known_rate_a_slice_is_half_a_minute_of_work():
    assert slicing.slice_size(stage(), 1_000_000, 0.1) == 300
    assert slicing.slice_size(stage(), 1_000_000, 45.0) == 1
    assert slicing.slice_size(stage(), 1_000_000, 0.000_001) == slicing.LARGEST


def test_at_an_unknown_rate_there_are_slices_enough_for_many_loops():
    assert slicing.slice_size(stage(), 6_400, None) == 100
    assert slicing.slice_size(stage(), 10, None) == 1
    assert slicing.slice_size(stage(), 10_000_000, None) == slicing.LARGEST_AT_UNKNOWN_RATE


@given(
    size=st.one_of(st.none(), st.integers(1, 50)),
    group_size=st.integers(1, 60),
    total=st.integers(0, 10**7),
    seconds=st.one_of(st.none(), st.floats(1e-6, 1e4)),
)
def test_a_slice_is_never_empty_and_never_parts_a_group(size, group_size, total, seconds):
    found = slicing.slice_size(group(slice_size=size, group_size=group_size), total, seconds)

    assert found >= 1
    assert found % group_size == 0


@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_size_that_would_part_a_group_becomes_one_that_does_not(size):
    assert slicing.slice_size(group(slice_size=size, group_size=4), 100, None) == 4
