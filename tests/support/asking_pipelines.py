"""Pipelines whose stages ask, freeze their lane, or have a person decide about failures. Scripted by the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from automation.pipeline import GroupStage, Payload, Pipeline, Stage, register
from automation.pipeline.context import AsyncStageContext, StageContext
from tests.support import pipelines
from tests.support.pipelines import Scripted


def _do(item: Payload, ctx: StageContext) -> None:
    if pipelines._script is not None:
        pipelines._script(item, ctx)


class AsksAtTheEnd(Scripted):
    """A person decides about what has failed twice."""

    slug = "asks-at-the-end"
    retries = 1
    retry_backoff = 0
    on_exhausted = "hold"


@register
class AsksAtTheEndPipeline(Pipeline):
    slug = "asks-at-the-end"
    title = "Asks at the end"
    stages = (AsksAtTheEnd,)


class AsksInOne(AsksAtTheEnd):
    """The same, in one slice with one checkpoint."""

    slug = "asks-in-one"
    checkpoint_interval = 3_600
    slice_size = 100


@register
class AsksInOnePipeline(Pipeline):
    slug = "asks-in-one"
    title = "Asks in one"
    stages = (AsksInOne,)


class Several(Stage):
    """Works on four items at once."""

    slug = "several"
    title = "Several"
    in_flight = 4
    slice_size = 20
    checkpoint_interval = 0.05
    on_exhausted = "hold"

    async def process(self, item: Payload, ctx: AsyncStageContext) -> AsyncIterator[Payload]:  # type: ignore[override]
        _do(item, ctx)
        await ctx.sleep(0.01)
        yield {"n": item["n"], "answer": ctx.answer}


@register
class SeveralPipeline(Pipeline):
    slug = "several"
    title = "Several"
    stages = (Several,)


class Gathered(GroupStage):
    slug = "gathered"
    title = "Gathered"
    group_size = 3
    slice_size = 9
    on_exhausted = "hold"

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        _do(items[0], ctx)
        yield {"n": [item["n"] for item in items], "answer": ctx.answer}


@register
class GatheredPipeline(Pipeline):
    slug = "gathered"
    title = "Gathered"
    stages = (Gathered,)


class AskingHooks(Scripted):
    """Each hook calls the script with its own name as ``n``."""

    slug = "asking-hooks"
    on_exhausted = "hold"

    def prepare(self, ctx: StageContext) -> None:
        _do({"n": "prepare"}, ctx)

    def setup(self, ctx: StageContext) -> None:
        _do({"n": "setup"}, ctx)

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        _do({"n": "finish"}, ctx)


@register
class AskingHooksPipeline(Pipeline):
    slug = "asking-hooks"
    title = "Asking hooks"
    stages = (AskingHooks,)
