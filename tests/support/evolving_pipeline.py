"""A pipeline that changes while runs of it are unfinished, as with a deploy of other code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import AutomationRun
from automation.pipeline import AGENT, GroupStage, Needs, Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from tests.support.factories import claim, make_run


class One(Stage):
    slug = "one"
    title = "First"
    slice_size = 5

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield {"n": item["n"], "by": [*item.get("by", ()), self.slug]}


class Two(One):
    slug = "two"
    title = "Second"


class Middle(One):
    slug = "middle"
    title = "Third"


class Renamed(Two):
    slug = "zwei"


class Known(Renamed):
    formerly = ("two",)


class TwoAsGroups(GroupStage):
    slug = "two"
    title = "Second"

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        yield from items


class TwoByAgents(Stage):
    slug = "two"
    title = "Second"
    executor = AGENT


class TwoElsewhere(Two):
    title = "Elsewhere"
    queue = "gpu"
    needs = Needs(cpu=64)
    retries = 7


class TwoWithTone(Two):
    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield {"n": item["n"], "tone": ctx.params["tone"]}


@register
class Evolving(Pipeline):
    slug = "evolving"
    title = "Evolving"
    stages = (One, Two)


class Pairs(GroupStage):
    slug = "pairs"
    title = "Pairs"
    group_size = 2
    slice_size = 4

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        yield {"of": [item["n"] for item in items], "group_size": self.group_size}


class Triples(Pairs):
    group_size = 3


@register
class Pairing(Pipeline):
    slug = "pairing"
    title = "Pairing"
    stages = (Pairs,)


TONE = Param("tone", str, "plain")


def midway(pipeline: str = "evolving", items: int = 20, **options: Any) -> AutomationRun:
    """A run whose first stage has done its first item, as a worker leaves it that is told to stop."""
    run = make_run(pipeline, items=items, **options)
    work = claim(run)
    assert work is not None
    output = f'{work.first_key}.000\t{{"n": 1, "by": ["one"]}}'.encode()
    checkpoint.commit(work, Progress(cursor=work.first_key, processed=1, outputs=[output]), release=True)
    return run
