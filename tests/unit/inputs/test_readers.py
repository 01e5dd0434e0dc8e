"""Readers of one's own, and what a pipeline checks of what they read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest

from automation.errors import InvalidInput
from automation.pipeline import Payload, Pipeline, Rows, run_input
from tests.support.archives import zipped


class OfProducts(Rows):
    label = "Products file"

    def choose_part(self, names: Sequence[str]) -> str:
        return next((name for name in names if name.startswith("products")), "")


class Catalogue(Pipeline):
    slug = "catalogue"
    title = "Catalogue"
    reader = OfProducts()

    @classmethod
    def clean_item(cls, item: Payload) -> Payload:
        if not item.get("sku"):
            raise InvalidInput("expected an item with a sku")
        return {**item, "sku": item["sku"].upper()}


def read(content: bytes, name: str = "items.csv") -> list[Payload]:
    return list(run_input.of_file(Catalogue, io.BytesIO(content), name))


def test_a_reader_may_say_which_file_of_a_zip_is_meant() -> None:
    shop = zipped({"products.csv": b"sku\na1\na2\n", "orders.csv": b"id\n1\n"})

    assert read(shop, "shop.zip") == [{"sku": "a1"}, {"sku": "a2"}]


@pytest.mark.parametrize(
    ("content", "name", "place"),
    [
        (b"sku,name\na1,x\n,y\n", "items.csv", "line 3"),
        (b'sku,name\na1,"x\ny"\n,y\n', "items.csv", "line 4"),
        (b'[{"sku": "a1"},\n\n{"name": "x"}]', "items.json", "line 3"),
        (b'{"sku": "a1"}\n\n{"sku": ""}\n', "items.jsonl", "line 3"),
    ],
)
def test_what_the_pipeline_refuses_is_named_by_its_place_in_the_file(content: bytes, name: str, place: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(content, name)

    assert str(caught.value) == f"Cannot use {name}: {place}: expected an item with a sku."


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (b'[{"sku": "a", "n": 123456789012345678901234567890}]', "line 1: expected an item made of JSON values"),
        (b'[{"sku": "a\\u0000"}]', "line 1: expected an item without NUL characters"),
        (b'[{"sku": "a\\ud800"}]', "line 1: expected an item made of JSON values"),
    ],
)
def test_an_item_that_cannot_be_stored_is_refused_before_a_run_is_created(item: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(item, "items.json")

    assert said in str(caught.value)


def test_an_item_that_is_too_large_is_refused_where_it_stands(settings: Any) -> None:
    settings.AUTOMATION = {**settings.AUTOMATION, "max_item_bytes": 2_000}

    with pytest.raises(InvalidInput, match="line 3: expected an item of at most 2,000 bytes"):
        read(b"sku,text\na1,x\na2," + b"x" * 3_000 + b"\n")


def test_a_start_is_checked_without_a_database(tmp_path: Any) -> None:
    file = tmp_path / "words.csv"
    file.write_bytes(b"keyword\ntent\n<b>\n")

    checked = run_input.check_start("content", file, {"words": "300"})

    assert checked is not None
    assert checked.count == 2
    assert run_input.check_start("drill", None) is None
    for slug, path, said in (
        ("content", None, "it needs input items"),
        ("drill", file, "it makes its own items"),
        ("content", tmp_path / "nope.csv", "no such file or directory"),
        ("content", tmp_path, "is a directory"),
    ):
        with pytest.raises(InvalidInput, match=said):
            run_input.check_start(slug, path)
