"""Clusters → Ideas: a few articles worth writing about one cluster."""

from __future__ import annotations

from collections.abc import Iterable

from automation.contrib.content.providers import TextStage
from automation.pipeline import Payload, Stage
from automation.pipeline.context import StageContext


class Ideas(TextStage, Stage):
    slug = "ideas"
    title = "Clusters → Ideas"
    retries = 5

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        ideas = self.text(ctx).ideas(item["name"], item["keywords"], ctx.params["ideas_per_cluster"])
        for number, idea in enumerate(ideas, start=1):
            yield {
                "cluster": item["name"],
                "slug": f"{item['slug']}-{number}",
                "title": idea.title,
                "angle": idea.angle,
                "summary": idea.summary,
                "keywords": item["keywords"],
                "volumes": item.get("volumes", {}),
                "size": item["size"],
            }
