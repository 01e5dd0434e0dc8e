"""An envelope gives back whatever was in a message, and never refuses anything."""

from __future__ import annotations

import enum
import json
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.messaging import envelope

texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["", "\0", "a\0b", "\ud800", "\ud83d\ude00", "\U0001f600", "$bytes", "$dict", "$"]
)
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-7)), ZoneInfo("Europe/Berlin")])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | texts
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=zones)
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
keys = st.recursive(leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    keys,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(keys, max_size=3)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=1)
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    return repr(one) == repr(other) or isinstance(one, set | frozenset)


@given(values)
def test_whatever_a_message_contains_comes_back_the_same(value):
    data = envelope.dump(value)

    assert same(envelope.load(data), value)
    assert envelope.dump(envelope.load(data)) == data
    json.loads(data)  # it can be read by hand


@given(st.dictionaries(st.text(), st.integers() | st.text(st.characters(codec="utf-8"))))
def test_what_json_has_stands_as_itself(value):
    if len(value) == 1 and next(iter(value)).startswith("$"):
        return
    value = {name: one for name, one in value.items() if not isinstance(one, int) or abs(one) < 1 << 63}

    assert json.loads(envelope.dump(value)) == value or len(value) == 1


def test_numbers_that_are_none_come_back():
    floats = envelope.load(envelope.dump([float("nan"), float("inf"), float("-inf"), -0.0]))
    decimals = envelope.load(envelope.dump([Decimal("NaN"), Decimal("sNaN12"), Decimal("-Infinity"), Decimal("1.50")]))

    assert [repr(number) for number in floats] == ["nan", "inf", "-inf", "-0.0"]
    assert [str(number) for number in decimals] == ["NaN", "sNaN12", "-Infinity", "1.50"]


def test_a_moment_keeps_its_zone_and_its_side_of_the_clock_change():
    berlin = datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    again = [envelope.load(envelope.dump(berlin.replace(fold=fold))) for fold in (0, 1)]

    assert [moment.utcoffset() for moment in again] == [timedelta(hours=2), timedelta(hours=1)]
    assert again[0].tzinfo is ZoneInfo("Europe/Berlin")


def test_an_integer_of_any_size_comes_back():
    sizes = [(1 << 63) - 1, 1 << 63, -(1 << 63), -(1 << 63) - 1, 1 << 20_000, -(1 << 20_000)]

    assert envelope.load(envelope.dump(sizes)) == sizes


def test_equal_sets_are_equal_bytes_whatever_their_order():
    names = [f"name-{number}" for number in range(200)]
    backwards = names[::-1]

    assert envelope.dump(set(names)) == envelope.dump(set(backwards))


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what it is"


class HashableDict(dict[str, int]):
    def __hash__(self) -> int:  # type: ignore[override]
        return 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        (Colour.RED, 1),
        (Word("what it is"), "what it is"),
        (Point(1, Word("b")), (1, "b")),
        (memoryview(b"\0\xff"), b"\0\xff"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (bytearray(b"ab"), b"ab"),
        ({memoryview(b"key"): 1}, {b"key": 1}),
        ({HashableDict(a=1): "x"}, {"{'a': 1}": "x"}),
        ({1: "one", "1": "text", None: 0, (1, 2): []}, {1: "one", "1": "text", None: 0, (1, 2): []}),
    ],
)
def test_what_extends_a_known_type_becomes_it(value, comes_back):
    assert same(envelope.load(envelope.dump(value)), comes_back)


class Unsayable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


class Evil(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no")


def test_what_has_no_form_becomes_its_text():
    unknown = {"a": 1 + 2j, "b": [UUID(int=1).__class__, Unsayable()], "c": Evil(x=1)}

    found = envelope.load(envelope.dump(unknown))

    assert found["a"] == "(1+2j)"
    assert found["b"][0] == "<class 'uuid.UUID'>"
    assert "Unsayable object at" in found["b"][1]
    assert found["c"] == "{'x': 1}"


def test_what_contains_itself_ends():
    loop: dict[str, Any] = {"name": "x"}
    loop["self"] = [loop]

    assert envelope.load(envelope.dump(loop)) == {"name": "x", "self": ["…"]}


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: {1: x, 2: [x]}])
def test_depth_has_no_limit(wrap):
    depth = 12 if isinstance(wrap(0), dict) and len(wrap(0)) == 2 else 5_000
    value: Any = "bottom"
    for _ in range(depth):
        value = wrap(value)

    found = envelope.load(envelope.dump(value))

    for _ in range(depth):
        assert type(found) is type(value)
        found, value = (next(iter(one.values())) if isinstance(one, dict) else one[0] for one in (found, value))
    assert found == "bottom"


def test_a_key_of_any_depth_is_kept_as_text_at_worst():
    key: Any = ()
    for _ in range(3_000):
        key = (key,)

    assert len(envelope.load(envelope.dump({key: 1, date(1, 1, 1): time(1)}))) == 2


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"$unknown": 1}', b'{"$uuid": 7}', b'{"$parts": [{"$part": 9}]}', b"\xff"]
)
def test_what_is_no_envelope_is_refused_with_a_sentence(data):
    with pytest.raises(ValueError, match=r"."):
        envelope.load(data)
