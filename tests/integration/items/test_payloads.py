"""Whatever a stage yields comes back as it was, or the item fails and says why. Against a real COPY."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automation.errors import InvalidInput
from automation.items import store
from automation.models import AutomationRun, ItemFailure, Lifecycle, WorkItem
from tests.support.factories import drain, make_run, make_site, numbers, outputs
from tests.support.pipelines import Odd

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
finite = st.floats(-1e15, 1e15)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), finite, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
payloads = st.dictionaries(texts, values, max_size=5)


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(payloads, min_size=1, max_size=5))
def test_payloads_come_back_as_they_went_in(given_payloads):
    WorkItem.objects.all().delete()

    store.write(
        store.row(b"1", f"{ordinal:03d}", store.encode(payload)) for ordinal, payload in enumerate(given_payloads)
    )

    assert [payload for _, payload in store.read(1)] == given_payloads


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text",
    [
        "\\",
        "\\\\",
        "\\N",
        "\\.",
        "a\tb\nc\rd",
        '"',
        "\\u0000",
        "\\\\u0000",
        "\x01\x1f\x7f",
        "é€😀\u2028",
        "\\\n\\",
        "'",
    ],
    ids=ascii,
)
def test_texts_that_mean_something_to_copy_or_json_survive(text):
    store.write([store.row(b"1", "000", store.encode({text: text, "list": [text]}))])

    assert [payload for _, payload in store.read(1)] == [{text: text, "list": [text]}]
    assert WorkItem.objects.get().payload == {text: text, "list": [text]}


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_large_float_comes_back_as_a_number_of_the_same_value(number):
    """PostgreSQL keeps JSON numbers as decimals: 1e16 may come back as the integer, which is the same float."""
    WorkItem.objects.all().delete()

    store.write([store.row(b"1", "000", store.encode({"x": number}))])

    [(_, payload)] = store.read(1)
    assert float(payload["x"]) == number


@pytest.mark.django_db
@pytest.mark.parametrize("count", [store.CHUNK - 1, store.CHUNK, store.CHUNK + 1])
def test_reading_in_chunks_misses_none_and_doubles_none(count):
    store.write(store.row(b"1", f"{n:06d}", store.encode({"n": n})) for n in range(count))

    assert [payload["n"] for _, payload in store.read(1)] == list(range(count))
    assert [payload["n"] for _, payload in store.read(1, first="000002", after="000003", up_to="000005")] == [4, 5]


@pytest.mark.django_db
def test_large_items_are_read_a_few_at_a_time_from_the_first_on():
    """By their size as text: repeated letters take a hundredth of it on disk."""
    large = {7: "x" * 700_000, 8: "y" * 700_000, 9: "z" * 3_000_000}
    made = [{"n": n, "text": large.get(n, "")} for n in range(20)] + [{"n": n, "text": "w" * 90_000} for n in range(40)]
    store.write(store.row(b"1", f"{n:03d}", store.encode(one)) for n, one in enumerate(made))

    chunks = list(store.read_chunks(1))

    assert [payload for chunk in chunks for _, payload in chunk.rows] == made
    sizes = [sum(len(payload["text"]) for _, payload in chunk.rows) for chunk in chunks]
    larger = [size for size in sizes if size > store.CHUNK_BYTES]
    assert max(larger) < 3_000_000 + store.CHUNK_BYTES
    assert all(size < 700_000 + store.CHUNK_BYTES for size in larger if size < 3_000_000)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, "got: NoneType"),
        ([1], "got: list"),
        ("text", "got: str"),
        ({1: 2}, "JSON values"),
        ({"n": 2**64}, "JSON values"),
        ({"n": range(3)}, "JSON values"),
        ({"n": {1, 2}}, "JSON values"),
        ({"n": b"bytes"}, "JSON values"),
        ({"n": "\ud800"}, "JSON values"),
        ({"n": "a\0b"}, "NUL"),
        ({"a\0b": 1}, "NUL"),
        ({"n": "\\\0"}, "NUL"),
        ({"a": [{"b": None}, {"b": math.nan}]}, r"finite numbers: a\[1\]\.b is nan"),
        ({"n": math.inf, "m": 1}, "finite numbers: n is inf"),
        ({"n": (1.0, -math.inf)}, r"finite numbers: n\[1\] is -inf"),
        ({"n": np.array([[1.0, math.nan]])}, r"finite numbers: n\[0\]\[1\] is nan"),
    ],
    ids=ascii,
)
def test_what_cannot_be_stored_is_refused_with_the_reason(payload, why):
    with pytest.raises(store.UnfitPayload, match=why):
        store.encode(payload)


def test_a_nul_that_is_only_spelt_out_is_no_nul():
    assert store.encode({"n": "\\u0000"}) == b'{"n":"\\\\u0000"}'


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("output", "stored"),
    [
        ({"n": None}, {"n": None}),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC)}, {"at": "2026-01-02T00:00:00+00:00"}),
        ({"id": uuid.UUID(int=1)}, {"id": "00000000-0000-0000-0000-000000000001"}),
        ({"n": 2**63}, {"n": 2**63}),
        ({}, {}),
    ],
    ids=ascii,
)
def test_a_stage_may_yield_what_json_can_say(output, stored, monkeypatch):
    monkeypatch.setattr(Odd, "output", output)

    run = drain(make_run("odd", items=1))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert outputs(run) == [stored]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("output", [None, "text", {"n": 2**64}, {"n": "a\0b"}], ids=ascii)
def test_an_output_that_cannot_be_stored_fails_its_item_alone(output, monkeypatch):
    monkeypatch.setattr(Odd, "output", output)

    run = drain(make_run("odd", items=3))

    assert run.lifecycle == Lifecycle.COMPLETED
    failures = ItemFailure.objects.filter(stage_run__run=run)
    assert [failure.payload for failure in failures] == numbers(3)
    assert all(failure.error.startswith("UnfitPayload: expected an output") for failure in failures)


@pytest.mark.django_db
def test_input_that_cannot_be_stored_names_the_item_and_leaves_nothing():
    with pytest.raises(InvalidInput, match=r"Cannot use item 2: expected an item without NUL characters\."):
        make_run("numbers", items=[{"n": 1}, {"n": "\0"}], site=make_site())

    assert not AutomationRun.objects.exists()
    assert not WorkItem.objects.exists()
