"""Ideas → Tasks: the brief a writer works from. Local and free: no provider is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from automation.contrib.content.language import words_of
from automation.pipeline import Payload, Stage
from automation.pipeline.context import StageContext

WORDS_PER_SECTION = 140
FEWEST_SECTIONS = 3
MOST_SECTIONS = 7
FEWEST_QUESTIONS = 2
MOST_KEYWORDS = 50


class Tasks(Stage):
    slug = "tasks"
    title = "Ideas → Tasks"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        words: int = ctx.params["words"]
        ranked = by_relevance(item["title"], item["keywords"])
        yield {
            **item,
            "keywords": ranked[:MOST_KEYWORDS],
            "primary_keyword": ranked[0],
            "words": words,
            "sections": min(MOST_SECTIONS, max(FEWEST_SECTIONS, words // WORDS_PER_SECTION)),
            "questions": max(FEWEST_QUESTIONS, words // 200),
        }


def by_relevance(title: str, keywords: Sequence[str]) -> list[str]:
    """``keywords`` with those that share most words with ``title`` first; equal ones keep their order."""
    wanted = {word.text for word in words_of(title) if not word.is_stop}

    def shared(keyword: str) -> float:
        words = {word.text for word in words_of(keyword)}
        return len(words & wanted) / max(1, len(words))

    return sorted(keywords, key=shared, reverse=True)
