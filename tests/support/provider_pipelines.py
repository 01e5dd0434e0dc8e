"""Pipelines whose stages ask a provider over HTTP: a resource that may be held, limited, or say "too much"."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

from automation.pipeline import AGENT, GroupStage, Param, Payload, Pipeline, Stage, TryLater, register
from automation.pipeline.context import AsyncStageContext, StageContext


def ask(url: str, what: Any) -> None:
    """Ask the provider; ``TryLater`` for as long as it wants if it says 429."""
    if not url:
        return
    request = urllib.request.Request(url, json.dumps({"n": what}).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 429:
            raise
        raise TryLater(float(error.headers["Retry-After"]), f"{url} answered 429") from None


class Ask(Stage):
    """Asks once for each item; ``seconds`` later it is done."""

    slug = "ask"
    title = "Ask"
    uses = ("provider",)
    slice_size = 3

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ask(ctx.params["url"], item["n"])
        if ctx.params["seconds"]:
            ctx.sleep(ctx.params["seconds"])
        yield {"n": item["n"]}


class AskHook(Ask):
    slug = "ask-hook"
    title = "Ask in a hook"

    def prepare(self, ctx: StageContext) -> None:
        ask(ctx.params["url"], "prepare")


class AskAsync(Stage):
    slug = "ask-async"
    title = "Ask, several at once"
    uses = ("provider",)
    in_flight = 4
    slice_size = 12

    async def process(self, item: Payload, ctx: AsyncStageContext) -> Iterable[Payload]:  # type: ignore[override]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, ask, ctx.params["url"], item["n"])
        await ctx.sleep(ctx.params["seconds"])
        return [{"n": item["n"]}]


class AskInGroups(GroupStage):
    slug = "ask-groups"
    title = "Ask in groups"
    uses = ("provider",)
    group_size = 4

    def process(self, items: Any, ctx: StageContext) -> Iterable[Payload]:
        ask(ctx.params["url"], [item["n"] for item in items])
        yield {"n": len(items)}


class AskRemote(Stage):
    slug = "ask-remote"
    title = "Ask, far away"
    executor = AGENT
    uses = ("provider",)
    slice_size = 4


PARAMS = (
    Param("url", str, "", "Where the provider is."),
    Param("seconds", float, 0.0, "How long an item takes after it was answered.", minimum=0),
)


def _pipeline(stage: type[Any]) -> type[Pipeline]:
    return register(
        type(
            f"{stage.__name__}Pipeline",
            (Pipeline,),
            {"slug": stage.slug, "title": stage.title, "stages": (stage,), "params": PARAMS},
        )
    )


for _stage in (Ask, AskHook, AskAsync, AskInGroups, AskRemote):
    _pipeline(_stage)
