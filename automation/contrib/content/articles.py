"""Tasks → Content: a structured article, kept as Markdown and as a page that opens in a browser."""

from __future__ import annotations

from collections.abc import Iterable

from automation.contrib.content.providers import Brief, TextStage
from automation.contrib.content.quality import fingerprint, on_topic
from automation.contrib.content.rendering import to_html, to_markdown, word_count
from automation.pipeline import Needs, Payload, Stage
from automation.pipeline.context import StageContext


class Content(TextStage, Stage):
    """``markdown`` and ``html`` name files under the run's folder of the storage."""

    slug = "content"
    title = "Tasks → Content"
    needs = Needs(cpu=1, memory_mib=128)
    retries = 5

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        article = self.text(ctx).article(Brief.from_task(item))
        markdown = to_markdown(article)
        ctx.artifacts.save(f"{item['slug']}.md", markdown.encode())
        ctx.artifacts.save(f"{item['slug']}.html", to_html(article, markdown).encode())
        yield {
            "slug": item["slug"],
            "cluster": item["cluster"],
            "title": article.title,
            "summary": article.summary,
            "headings": [section.heading for section in article.sections],
            "words": word_count(markdown),
            "is_demo": bool(article.note),
            "on_topic": on_topic(markdown, item["keywords"]),
            "fingerprint": fingerprint(markdown),
            "text": markdown,
            "markdown": f"{self.slug}/{item['slug']}.md",
            "html": f"{self.slug}/{item['slug']}.html",
        }
