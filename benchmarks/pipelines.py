"""Pipelines that cost nothing by themselves, so that what is measured is the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from automation.pipeline import AGENT, Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext


class Noop(Stage):
    """One output for each item."""

    slug = "noop"
    title = "No-op"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        return (item,)


class NoopUsing(Noop):
    """The same in slices of 10,000, with resources from outside if ``uses`` says so."""

    slice_size = 10_000
    uses = ("bench-model", "bench-storage")

    @classmethod
    def uses_with(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        return cls.uses if params["uses"] else ()


class Turns(Stage):
    """No-op items; each process asks for capacity before every other slice of its own, and notes when one begins."""

    slug = "turns"
    title = "Slices in turns"
    slice_size = 10_000

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if item["n"] % self.slice_size:
            return (item,)
        from django.conf import settings

        is_watched = settings.PAUSE_MANAGER.get("capacity", True)
        settings.PAUSE_MANAGER["capacity"] = not is_watched
        return ({"process": os.getpid(), "at": time.perf_counter(), "is_watched": is_watched},)


class Spin(Stage):
    """One output for each item, after ``microseconds`` of pure Python."""

    slug = "spin"
    title = "Spin"
    slice_size = 10_000

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        spin(ctx.params["microseconds"] / 1e6)
        return (item,)


class SpinByProcessor(Stage):
    """The same, but of this thread's processor time: other processes that take the core make no difference."""

    slug = "spin-by-processor"
    title = "Spin by processor time"
    slice_size = 10_000

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        spin_by_processor(ctx.params["microseconds"] / 1e6)
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


def spin_by_processor(seconds: float) -> None:
    """Use ``seconds`` of this thread's processor time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


class _Numbers(Pipeline):
    needs_input = False
    params: ClassVar[tuple[Param, ...]] = (
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
class UsingPipeline(_Numbers):
    slug = "bench-uses"
    title = "No-op items that use resources, or not"
    params = (*_Numbers.params, Param("uses", int, 1, minimum=0, maximum=1))
    stages = (NoopUsing,)


@register
class TurnsPipeline(_Numbers):
    slug = "bench-turns"
    title = "No-op items, with the gate and without in turns"
    stages = (Turns,)


@register
class SpinPipeline(_Numbers):
    slug = "bench-spin"
    title = "Items of a fixed length"
    stages = (Spin,)


@register
class SpinByProcessorPipeline(_Numbers):
    slug = "bench-spin-by-processor"
    title = "Items of a fixed length by processor time"
    stages = (SpinByProcessor,)


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
