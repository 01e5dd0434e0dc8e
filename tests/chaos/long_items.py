"""The ``long-items`` pipeline: items that commit where they are, and an item with very many outputs."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from automation.pipeline import Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from tests.chaos.ledger_lines import note


class Epochs(Stage):
    slug = "epochs"
    title = "Epochs"
    slice_size = 2

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for epoch in range((ctx.state or {"epoch": 0})["epoch"], ctx.params["epochs"]):
            note(ctx, f"epoch-{epoch}")
            time.sleep(ctx.params["seconds"])
            yield {"n": item["n"], "epoch": epoch}
            ctx.checkpoint({"epoch": epoch + 1})
        note(ctx, "end")


class AsyncEpochs(Stage):
    """The same, four items at once. The item ``hang`` ends no step of its own accord."""

    slug = "async-epochs"
    title = "Async epochs"
    slice_size = 4
    in_flight = 4
    item_timeout = 4.0
    max_failures = None

    async def process(self, item: Payload, ctx: Any) -> AsyncIterator[Payload]:
        for epoch in range((ctx.state or {"epoch": 0})["epoch"], ctx.params["epochs"]):
            note(ctx, f"epoch-{epoch}")
            if item["n"] == ctx.params["hang"]:
                time.sleep(1_000)
            await asyncio.sleep(ctx.params["seconds"])
            yield {"n": item["n"], "epoch": epoch}
            await ctx.checkpoint({"epoch": epoch + 1})
        note(ctx, "end")


class Many(Stage):
    slug = "many"
    title = "Many"
    retries = 1

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        note(ctx, "start")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for n in range(item["count"]):
            if n == item["count"] // 2:
                note(ctx, "half")
            yield {"n": n, "text": f"output number {n} of very many"}
        note(ctx, f"grown-{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}")
        note(ctx, "end")


class Made(Pipeline):
    params = (
        Param("ledger", str, ""),
        Param("items", int, 4),
        Param("epochs", int, 20),
        Param("count", int, 1_000),
        Param("hang", int, -1),
        Param("seconds", float, 0.1),
    )
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterator[Payload]:
        for n in range(params["items"]):
            yield {"n": n, "count": params["count"]}


@register
class LongItems(Made):
    slug = "long-items"
    title = "Long items"
    stages = (Epochs,)


@register
class AsyncItems(Made):
    slug = "long-async"
    title = "Long async items"
    stages = (AsyncEpochs,)


@register
class ManyOutputs(Made):
    slug = "many-outputs"
    title = "Many outputs"
    stages = (Many,)
