"""Image Prompts → Images: PNG files, and a gallery to look at the whole run in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from automation.contrib.content.gallery import gallery_page, results_table
from automation.contrib.content.providers import OPENAI, ImageProvider, image_provider
from automation.pipeline import Needs, Payload, Stage
from automation.pipeline.context import StageContext


class Images(Stage):
    """``file`` names the picture under the run's folder of the storage; ``index.html`` there shows them all."""

    slug = "images"
    title = "Image Prompts → Images"
    needs = Needs(cpu=1, memory_mib=128)
    retries = 3
    uses = (OPENAI,)

    @classmethod
    def uses_with(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        return cls.uses if params.get("image_provider") == OPENAI else ()

    def __init__(self) -> None:
        self._provider: ImageProvider | None = None

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        if self._provider is None:
            self._provider = image_provider(ctx.params)
        picture = self._provider.draw(item["prompt"], item["title"])
        ctx.artifacts.save(f"{item['slug']}.png", picture.png)
        yield {
            "slug": item["slug"],
            "title": item["title"],
            "cluster": item["cluster"],
            "summary": item["summary"],
            "words": item["words"],
            "is_demo": item["is_demo"],
            "on_topic": item["on_topic"],
            "fingerprint": item["fingerprint"],
            "article": item["article"],
            "prompt": item["prompt"],
            "file": f"{self.slug}/{item['slug']}.png",
            "width": picture.width,
            "height": picture.height,
            "bytes": len(picture.png),
            "sha256": hashlib.sha256(picture.png).hexdigest(),
        }

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        results = list(outputs)
        ctx.artifacts.save("results.csv", results_table(results))
        ctx.artifacts.save("index.html", gallery_page(results).encode())
        ctx.logger.info("Wrote index.html and results.csv for %d images.", len(results))
