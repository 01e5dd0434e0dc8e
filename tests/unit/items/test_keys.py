"""Keys sort in input order, however many there are and however deep, and say where an item came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automation.items import keys

ordinals = st.one_of(st.integers(0, 2_000), st.integers(0, 999_999_999))
paths = st.lists(ordinals, min_size=1, max_size=5)


def key_of(path: list[int]) -> str:
    key = keys.segment(path[0])
    for ordinal in path[1:]:
        key = keys.child(key, ordinal)
    return key


@given(paths, paths)
def test_keys_sort_like_the_paths_they_stand_for(one, other):
    assert (key_of(one) < key_of(other)) == (one < other)
    assert (key_of(one) == key_of(other)) == (one == other)


@given(paths, st.integers(0, 3), paths, st.integers(0, 3))
def test_keys_of_two_sources_never_meet_and_sort_by_source(one, first, other, second):
    left, right = keys.of_source(first) + key_of(one), keys.of_source(second) + key_of(other)

    assert (left < right) == ((first, one) < (second, other))


@given(paths, ordinals)
def test_the_source_of_a_child_is_its_parent(path, ordinal):
    assert keys.source(keys.child(key_of(path), ordinal)) == key_of(path)


@given(ordinals)
def test_an_item_of_the_input_has_no_source(ordinal):
    assert keys.source(keys.segment(ordinal)) == ""


@pytest.mark.parametrize("ordinal", [0, 999, 1_000, 999_999, 1_000_000, 999_999_999])
def test_the_steps_in_length_keep_the_order(ordinal):
    assert keys.segment(ordinal) < keys.segment(min(ordinal + 1, 999_999_999)) or ordinal == 999_999_999


def test_an_ordinal_too_large_to_sort_is_refused():
    with pytest.raises(ValueError, match="below 1,000,000,000, got: 1000000000"):
        keys.segment(1_000_000_000)
