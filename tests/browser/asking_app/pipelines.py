"""Pages that somebody must approve, and that cannot all be rendered."""

from __future__ import annotations

from collections.abc import Iterable

from automation.pipeline import NeedsInput, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext


class Approve(Stage):
    slug = "approve"
    title = "Pages → Approved"
    slice_size = 1

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if item["n"] == 1 and ctx.answer is None:
            raise NeedsInput(
                "The page “Anchors for every harbour” quotes a customer by name. Publish it?",
                choices=("Publish it", "Publish it without the name", "Leave it out"),
            )
        if item["n"] == 2 and ctx.answer is None:
            raise NeedsInput("Which colour is the chair on the picture?")
        yield {"n": item["n"], "answer": ctx.answer or ""}


class Render(Stage):
    slug = "render"
    title = "Approved → Rendered"
    on_exhausted = "hold"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if item["n"] == 3:
            raise ValueError(f"the template has no place for page {item['n']}")
        yield {"n": item["n"], "answer": item["answer"]}


@register
class Publishing(Pipeline):
    slug = "publishing"
    title = "Publishing"
    stages = (Approve, Render)
