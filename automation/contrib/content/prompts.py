"""Content → Image Prompts: what to draw for an article."""

from __future__ import annotations

from collections.abc import Iterable

from automation.contrib.content.providers import TextStage
from automation.pipeline import Payload, Stage
from automation.pipeline.context import StageContext


class Prompts(TextStage, Stage):
    slug = "prompts"
    title = "Content → Image Prompts"
    retries = 5

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        for number in range(1, ctx.params["images_per_article"] + 1):
            yield {
                "slug": f"{item['slug']}-{number}",
                "article": item["html"],
                "cluster": item["cluster"],
                "title": item["title"],
                "summary": item["summary"],
                "words": item["words"],
                "is_demo": item["is_demo"],
                "on_topic": item["on_topic"],
                "fingerprint": item["fingerprint"],
                "prompt": self.text(ctx).image_prompt(item["title"], item["summary"], number),
            }
