"""Pipelines whose items are long, or give more than fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from automation.pipeline import GroupStage, Payload, Pipeline, Stage, TryLater, register
from automation.pipeline.context import StageContext

Script = Callable[[int, StageContext], None]
_script: Script | None = None
log: list[Any] = []


@contextmanager
def during(script: Script) -> Iterator[list[Any]]:
    """Call ``script(step, ctx)`` before each step of an item; yields the steps that were taken, as (item, step)."""
    global _script
    _script = script
    log.clear()
    try:
        yield log
    finally:
        _script = None


def _step(name: Any, step: int, ctx: StageContext) -> None:
    if _script is not None:
        _script(step, ctx)
    log.append((name, step))


class Train(Stage):
    """``epochs`` steps an item; each gives an output and commits where it is."""

    slug = "train"
    title = "Train"
    retries = 1
    retry_backoff = 0.0
    max_failures = None
    slice_size = 2

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for epoch in range((ctx.state or {"epoch": 0})["epoch"], item["epochs"]):
            _step(item["name"], epoch, ctx)
            yield {"name": item["name"], "epoch": epoch}
            ctx.checkpoint({"epoch": epoch + 1})


class Forgetful(Train):
    """Commits where it is and never asks."""

    slug = "forgetful"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for epoch in range(item["epochs"]):
            _step(item["name"], epoch, ctx)
            yield {"name": item["name"], "epoch": epoch}
            ctx.checkpoint({"epoch": epoch + 1})


class Listing(Train):
    """A plain function that returns a list at its end."""

    slug = "listing"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for epoch in range((ctx.state or {"epoch": 0})["epoch"], item["epochs"]):
            _step(item["name"], epoch, ctx)
            ctx.checkpoint({"epoch": epoch + 1})
        return [{"name": item["name"], "epoch": epoch} for epoch in range(item["epochs"])]


class Groups(GroupStage):
    """The same as Train, of groups."""

    slug = "groups"
    title = "Groups"
    group_size = 2
    retries = 1
    retry_backoff = 0.0

    def process(self, items: Any, ctx: StageContext) -> Iterable[Payload]:
        for epoch in range((ctx.state or {"epoch": 0})["epoch"], items[0]["epochs"]):
            _step(items[0]["name"], epoch, ctx)
            yield {"name": items[0]["name"], "epoch": epoch}
            ctx.checkpoint({"epoch": epoch + 1})


class Certain(Train):
    slug = "certain"
    irreversible = True

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for output in super().process(item, ctx):
            assert not ctx.should_stop()
            yield output


class Many(Stage):
    """``count`` outputs an item, and no checkpoint of its own."""

    slug = "many"
    title = "Many"
    retries = 1
    retry_backoff = 0.0
    max_failures = None
    slice_size = 3

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for n in range(item["count"]):
            if n % 100 == 0:
                _step(item["name"], n, ctx)
            yield {"name": item["name"], "n": n}


class Copy(Stage):
    slug = "copy"
    title = "Copy"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        return [item]


class Mixed(Train):
    """Yields the outputs of its first item, and returns those of the second."""

    slug = "mixed"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if item["name"] == "a":
            return ({"name": "a", "epoch": epoch} for epoch in range(item["epochs"]))
        ctx.checkpoint({"epoch": 0})
        return [{"name": item["name"], "epoch": epoch} for epoch in range(item["epochs"])]


class Fickle(Train):
    """Asks for its state in each attempt but the second."""

    slug = "fickle"
    states: ClassVar[list[Any]] = []

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        attempt = len(self.states)
        self.states.append(ctx.state if attempt != 1 else "not asked")
        for n in range(200):
            yield {"name": item["name"], "n": n}
            if attempt == 0 and n == 50:
                ctx.checkpoint({"n": n})
        if attempt < 2:
            raise TryLater(0.01)


class Prepared(Many):
    """Many outputs after one dear step, which is committed before the first of them."""

    slug = "prepared"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if ctx.state is None:
            log.append("prepared")
            ctx.checkpoint({"is_prepared": True})
        yield from super().process(item, ctx)


class Odd(Stage):
    """Commits what its item says."""

    slug = "odd"
    title = "Odd"
    max_failures = None

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        odd = {"none": None, "nan": float("nan"), "object": object(), "large": "x" * 2**24}
        ctx.checkpoint(odd[item["state"]])
        yield item


for stage in (Train, Forgetful, Listing, Groups, Certain, Many, Mixed, Fickle, Prepared, Odd):
    register(
        type(
            f"{stage.__name__}Run",
            (Pipeline,),
            {"slug": f"long-{stage.slug}", "title": stage.title, "stages": (stage, Copy)},
        )
    )
