"""The ``chaos`` pipeline: items that note each attempt in a ledger, and one that may kill its own worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from automation.pipeline import GroupStage, Param, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from tests.chaos import double_publisher, long_items, trials  # noqa: F401  (one listens, the others register pipelines)
from tests.chaos.expected_outputs import FOLD, fan, fold, toil
from tests.chaos.ledger_lines import note


class Fan(Stage):
    """One number becomes two."""

    slug = "fan"
    title = "Fan"
    slice_size = 10

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        note(ctx, "start")
        time.sleep(ctx.params["seconds"] / 10)
        note(ctx, "end")
        return fan(item["n"])


class Toil(Stage):
    """Takes its time, deaf to a stop until the item is done; the poison item kills its process."""

    slug = "toil"
    title = "Toil"
    slice_size = 8

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        note(ctx, "start")
        if item["n"] == ctx.params["poison"]:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(ctx.params["seconds"])
        note(ctx, "end")
        yield toil(item)


class Fold(GroupStage):
    """Five become one; the hooks note that they ran."""

    slug = "fold"
    title = "Fold"
    group_size = FOLD
    slice_size = 10

    def prepare(self, ctx: StageContext) -> None:
        note(ctx, "start")

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        note(ctx, "start")
        time.sleep(ctx.params["seconds"])
        note(ctx, "end")
        yield fold(items)

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        note(ctx, "start")
        ctx.artifacts.save("sum.txt", str(sum(output["sum"] for output in outputs)).encode())


@register
class Chaos(Pipeline):
    """``items`` numbers through three stages."""

    slug = "chaos"
    title = "Chaos"
    stages = (Fan, Toil, Fold)
    params = (
        Param("ledger", str, ""),
        Param("items", int, 20, minimum=1),
        Param("seconds", float, 0.05, minimum=0),
        Param("poison", int, -1),
    )
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterator[Payload]:
        return ({"n": n} for n in range(params["items"]))


class Scribe(Stage):
    """Each item leaves a file that says which process wrote it, and so does ``finish``, under a fixed name."""

    slug = "scribe"
    title = "Scribe"
    slice_size = 2

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        note(ctx, "start")
        time.sleep(ctx.params["seconds"])
        ctx.artifacts.save(f"pages/{item['n']}.txt", f"{item['n']} by {os.getpid()}".encode())
        note(ctx, "end")
        yield {"n": item["n"], "by": os.getpid(), "file": f"scribe/pages/{item['n']}.txt"}

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        note(ctx, "start")
        time.sleep(ctx.params["seconds"])
        ctx.artifacts.save("results.csv", f"{len(list(outputs))} by {os.getpid()}".encode())
        note(ctx, "end")


@register
class Scribes(Pipeline):
    """``items`` numbers, a file each."""

    slug = "scribes"
    title = "Scribes"
    stages = (Scribe,)
    params = (Param("ledger", str, ""), Param("items", int, 8, minimum=1), Param("seconds", float, 0.5, minimum=0))
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterator[Payload]:
        return ({"n": n} for n in range(params["items"]))


class Stuck(Stage):
    """Cannot even be made while the file ``stuck`` lies in the fleet's directory, like a model that does not load."""

    slug = "stuck"
    title = "Stuck"

    def __init__(self) -> None:
        if os.path.exists(os.environ["CHAOS_STUCK"]):
            raise RuntimeError("Cannot load the model: it is stuck.")

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield item


@register
class Reluctant(Pipeline):
    """One item for one stage that may refuse to be made."""

    slug = "reluctant"
    title = "Reluctant"
    stages = (Stuck,)
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterator[Payload]:
        return iter([{"n": 0}])


def _branch(name: str, after: tuple[str, ...]) -> type[Stage]:
    def process(self: Stage, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        note(ctx, "start")
        time.sleep(ctx.params["seconds"])
        note(ctx, "end")
        yield {"n": item["n"], "path": [*item.get("path", ()), name]}

    return type(
        name.title(),
        (Stage,),
        {"slug": name, "title": name.title(), "after": after, "process": process, "slice_size": 3},
    )


@register
class Branches(Pipeline):
    """Two branches over the same numbers, a stage after one of them, and a join of all three."""

    slug = "branches"
    title = "Branches"
    stages = (
        _branch("left", ()),
        _branch("right", ()),
        _branch("third", ("left",)),
        _branch("join", ("right", "third")),
    )
    params = (Param("ledger", str, ""), Param("items", int, 8, minimum=1), Param("seconds", float, 0.2, minimum=0))
    needs_input = False

    @classmethod
    def make_items(cls, params: Mapping[str, Any]) -> Iterator[Payload]:
        return ({"n": n} for n in range(params["items"]))
