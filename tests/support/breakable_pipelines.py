"""Pipelines whose run a test can fail at any item of any stage, in a real loop. Importing the module registers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from automation.pipeline import GroupStage, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from automation.runs import failing
from tests.support.factories import everybody_has_heard

_break_at: int | None = None
_breaks_finish = False
_fails: tuple[str, Callable[[Payload], bool]] | None = None
_seen = 0


@contextmanager
def broken_at(item: int) -> Iterator[None]:
    """Fail the run while the ``item``-th item of all stages is at work; the loop has heard of it before the next."""
    global _break_at, _seen
    _break_at, _seen = item, 0
    try:
        yield
    finally:
        _break_at = None


@contextmanager
def broken_finish() -> Iterator[None]:
    global _breaks_finish
    _breaks_finish = True
    try:
        yield
    finally:
        _breaks_finish = False


@contextmanager
def failing_items(stage: str, which: Callable[[Payload], bool]) -> Iterator[None]:
    global _fails
    _fails = (stage, which)
    try:
        yield
    finally:
        _fails = None


def work_on(stage: str, item: Payload, ctx: StageContext) -> None:
    global _seen
    _seen += 1
    if _fails is not None and _fails[0] == stage and _fails[1](item):
        raise ValueError("told to fail")
    if _seen == _break_at:
        failing.fail(ctx.run_id, reason="told to fail")
        everybody_has_heard()


class Spread(Stage):
    """Two outputs of even numbers, one of odd ones."""

    slug = "spread"
    title = "Spread"
    slice_size = 4

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        work_on(self.slug, item, ctx)
        return [{"n": item["n"] * 10 + part} for part in range(2 - item["n"] % 2)]


class Pair(GroupStage):
    slug = "pair"
    title = "Pair"
    group_size = 2
    slice_size = 6

    def process(self, items: Sequence[Payload], ctx: StageContext) -> Iterable[Payload]:
        work_on(self.slug, items[0], ctx)
        yield {"pair": [item["n"] for item in items]}


class Last(Stage):
    slug = "last"
    title = "Last"
    slice_size = 3

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        work_on(self.slug, item, ctx)
        yield {"done": item["pair"]}


@register
class Breakable(Pipeline):
    slug = "breakable"
    title = "Breakable"
    stages = (Spread, Pair, Last)


class Counted(Stage):
    slug = "counted"
    title = "Counted"
    slice_size = 4

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        work_on(self.slug, item, ctx)
        yield {"n": item["n"]}

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        if _breaks_finish:
            raise ValueError("told to fail")
        ctx.artifacts.save("count.txt", str(len(list(outputs))).encode())


@register
class BreakableFinish(Pipeline):
    slug = "breakable-finish"
    title = "Breakable finish"
    stages = (Counted,)


def _branch(name: str, after: tuple[str, ...]) -> type[Stage]:
    def process(self: Any, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        work_on(name, item, ctx)
        yield {"n": item["n"], "path": [*item.get("path", ()), name]}

    body = {"slug": name, "title": name.title(), "after": after, "process": process, "slice_size": 3}
    return type(name.title(), (Stage,), body)


@register
class BreakableBranches(Pipeline):
    slug = "breakable-branches"
    title = "Breakable branches"
    stages = (_branch("left", ()), _branch("right", ()), _branch("join", ("left", "right")))
