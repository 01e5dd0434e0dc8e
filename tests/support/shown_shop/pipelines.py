"""``catalogue``: products are described and then illustrated; a few cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from automation.pipeline import Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext

NAMES = (
    "Harbour lamp",
    "Sea chest",
    "Rope chair",
    "Tide clock",
    "Deck table",
    "Sail curtain",
    "Anchor hook",
    "Buoy vase",
)


class Describe(Stage):
    slug = "describe"
    title = "Products → Descriptions"
    uses = ("model-api",)
    slice_size = 10

    @classmethod
    def label(cls, payload: Payload) -> str:
        return str(payload.get("product", ""))

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ctx.sleep(ctx.params["seconds"])
        if item["n"] % 23 == 0:
            raise ValueError(f"product {item['n']} has no dimensions")
        if item["n"] % 31 == 0:
            raise TimeoutError(f"model-api did not answer within 30 s for product {item['n']}")
        yield {"n": item["n"], "product": item["product"], "words": 90 + item["n"] % 60}


class Illustrate(Stage):
    slug = "illustrate"
    title = "Descriptions → Pictures"
    slice_size = 10

    @classmethod
    def label(cls, payload: Payload) -> str:
        return str(payload.get("product", ""))

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ctx.sleep(ctx.params["seconds"] / 2)
        yield {"product": item["product"], "format": "1,200 × 800"}


@register
class Catalogue(Pipeline):
    slug = "catalogue"
    title = "Catalogue"
    stages = (Describe, Illustrate)
    needs_input = False
    params = (
        Param("products", int, 200, "Number of products.", minimum=1, maximum=100_000),
        Param("seconds", float, 0.3, "Seconds each takes.", minimum=0, maximum=60),
    )

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterable[Payload]:
        for n in range(1, params["products"] + 1):
            yield {"n": n, "product": f"{NAMES[n % len(NAMES)]} No. {n}"}
