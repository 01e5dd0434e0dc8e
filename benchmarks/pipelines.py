"""Pipelines that cost nothing by themselves, so that what is measured is the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from automation.context import StageContext
from automation.pipeline import AGENT, Param, Payload, Pipeline, Stage, register
from pause_manager.needs import Needs


class Noop(Stage):
    """One output for each item."""

    slug = "noop"
    title = "No-op"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        return (item,)


class NoopHere(Noop):
    """The same for one of two runs on one machine: both have room there whatever else it does."""

    slice_size = 10_000
    needs = Needs(cpu=0.1)


class NoopThere(NoopHere):
    """The same on a queue of its own, for a second worker beside the first."""

    queue = "there"


class Spin(Stage):
    """One output for each item, after ``microseconds`` of pure Python."""

    slug = "spin"
    title = "Spin"
    slice_size = 10_000

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        spin(ctx.params["microseconds"] / 1e6)
        return (item,)


class Stamp(Stage):
    """Its output tells when, by the machine's clock, the item was started."""

    slug = "stamp"
    title = "Stamp"
    slice_size = 10_000

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        started_at = time.time()
        spin(ctx.params["microseconds"] / 1e6)
        return ({"started_at": started_at},)


class StampShort(Stage):
    """The same in slices of a tenth of a second; it tells the number of the item as well."""

    slug = "stamp"
    title = "Stamp"
    slice_size = 100

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        started_at = time.time()
        spin(ctx.params["microseconds"] / 1e6)
        return ({"started_at": started_at, "n": item["n"]},)


class Remote(Stage):
    """For agents; each item is a slice."""

    slug = "remote"
    title = "Remote"
    executor = AGENT
    slice_size = 1


def spin(seconds: float) -> None:
    """Keep the interpreter busy for ``seconds``."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class _Numbers(Pipeline):
    needs_input = False
    params = (
        Param("items", int, 1000, minimum=1),
        Param("microseconds", int, 100, minimum=0),
    )

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterable[Payload]:
        return ({"n": n} for n in range(params["items"]))


@register
class NoopPipeline(_Numbers):
    slug = "bench-noop"
    title = "No-op items"
    stages = (Noop,)


@register
class HerePipeline(_Numbers):
    slug = "bench-here"
    title = "No-op items beside others"
    stages = (NoopHere,)


@register
class TherePipeline(_Numbers):
    slug = "bench-there"
    title = "No-op items on a queue of their own"
    stages = (NoopThere,)


@register
class SpinPipeline(_Numbers):
    slug = "bench-spin"
    title = "Items of a fixed length"
    stages = (Spin,)


@register
class StampPipeline(_Numbers):
    slug = "bench-stamp"
    title = "Items that note their start"
    stages = (Stamp,)


@register
class StampShortPipeline(_Numbers):
    slug = "bench-stamp-short"
    title = "Items that note their start, in short slices"
    stages = (StampShort,)


@register
class AgentPipeline(_Numbers):
    slug = "bench-agent"
    title = "Work for remote agents"
    stages = (Remote,)
