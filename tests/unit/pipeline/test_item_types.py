"""What a stage says that an item is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, NotRequired, TypedDict

import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict

from automation.errors import PipelineError
from automation.pipeline import Pipeline, Stage, item_types, register
from automation.pipeline.payloads import UnfitPayload, encode
from automation.testing import run_stage


class Row(TypedDict):
    sku: str
    price: float
    tags: NotRequired[list[str]]


class Extended(typing_extensions.TypedDict):
    sku: str


@dataclass
class Part:
    name: str
    count: int = 1


@dataclass
class Order:
    parts: list[Part]
    day: date
    notes: list[str] = field(default_factory=list)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date
    count: int


def stage(item_type: Any, **body: Any) -> type[Stage]:
    def process(self: Any, item: Any, ctx: Any) -> Any:
        yield {"given": repr(item)}

    return type(
        "Typed", (Stage,), {"slug": "typed", "title": "Typed", "item_type": item_type, "process": process} | body
    )


@pytest.mark.parametrize(
    ("declared", "item", "given"),
    [
        (Row, {"sku": "a", "price": "3", "colour": "red"}, "{'sku': 'a', 'price': 3.0, 'colour': 'red'}"),
        (Extended, {"sku": "a", "n": 1}, "{'sku': 'a', 'n': 1}"),
        (Part, {"name": "bolt", "count": "7", "colour": "red"}, "Part(name='bolt', count=7)"),
        (
            Order,
            {"parts": [{"name": "bolt"}], "day": "2026-01-02"},
            "Order(parts=[Part(name='bolt', count=1)], day=datetime.date(2026, 1, 2), notes=[])",
        ),
        (Strict, {"day": "2026-01-02", "count": 1}, "Strict(day=datetime.date(2026, 1, 2), count=1)"),
    ],
)
def test_process_gets_what_is_declared(declared, item, given):
    assert run_stage(stage(declared), [item]).outputs == [{"given": given}]


@pytest.mark.parametrize(
    ("declared", "item", "said"),
    [
        (
            Row,
            {"sku": 1},
            ("expected Row (sku: str, price: float, ", "sku: Input should be a valid string, got: 1"),
        ),
        (Row, {"sku": "a", "price": 1, "tags": ["x", 2]}, ("tags[1]: Input should be a valid string, got: 2",)),
        (Order, {"parts": [{"name": "a"}, {}], "day": "2026-01-02"}, ("parts[1].name: Field required",)),
        (Strict, {"day": "2026-01-02", "count": "1"}, ("count: Input should be a valid integer, got: '1'",)),
        (Row, {"sku": "a", "price": "x" * 500}, ("got: '" + "x" * 59 + "…",)),
        (Row, {}, ("sku: Field required; price: Field required",)),
    ],
)
def test_what_does_not_fit_is_told_by_its_path(declared, item, said):
    with pytest.raises(UnfitPayload) as refused:
        item_types.of(declared).take(item)

    for part in said:
        assert part in str(refused.value)


@pytest.mark.parametrize("made", [Part("a", 2), Strict(day=date(2026, 1, 2), count=1)])
def test_outputs_may_be_objects_too(made):
    assert encode(made) in (b'{"name":"a","count":2}', b'{"day":"2026-01-02","count":1}')


def test_what_an_object_holds_is_checked_like_a_dict():
    with pytest.raises(UnfitPayload, match="count is nan"):
        encode(Part("a", float("nan")))  # type: ignore[arg-type]
    with pytest.raises(UnfitPayload, match="dict, dataclass or pydantic model"):
        encode(Part)


@pytest.mark.parametrize("declared", [int, dict, 5, [Row], "Row", list[int], dict[str, int]])
def test_only_what_has_fields_can_be_declared(declared):
    pipeline = type("Wrong", (Pipeline,), {"slug": "wrong-type", "title": "Wrong", "stages": (stage(declared),)})

    with pytest.raises(PipelineError, match=r"Typed\.item_type cannot be used: expected a TypedDict, a dataclass or a"):
        register(pipeline)


def test_a_field_that_pydantic_does_not_know_is_told_at_registration():
    odd: Any = dataclass(type("Odd", (), {"__annotations__": {"what": complex, "lock": type("Lock", (), {})}}))

    with pytest.raises(PipelineError, match="pydantic cannot use Odd"):
        register(type("Wrong", (Pipeline,), {"slug": "wrong-type", "title": "Wrong", "stages": (stage(odd),)}))


def test_a_stage_that_declares_nothing_is_called_as_it_is():
    plain = stage(None)()

    assert item_types.process_of(plain) == plain.process
