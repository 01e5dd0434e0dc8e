"""How good an article is, as far as it can be counted: is it its own, is it on its topic, is there enough of it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from automation.contrib.content.language import stem, words_of

ENOUGH_WORDS = 60
"""A text with fewer loses in quality in proportion."""
_MARKS = re.compile(r"^(?:[-*>]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?…])[”\"]?\s+")
_DIGEST = 8


def sentences_of(markdown: str) -> list[str]:
    """The sentences of a text, without headings, tables and the note that it is a demo."""
    lines = [_MARKS.sub("", line).strip("* ") for line in markdown.splitlines() if not line.startswith(("#", "|", ">"))]
    return [part.strip() for line in lines for part in _END.split(line) if part.strip()]


def fingerprint(markdown: str) -> str:
    """Eight digits for each sentence of a text, to compare it with the others of the run."""
    return "".join(hashlib.sha256(one.encode()).hexdigest()[:_DIGEST] for one in sentences_of(markdown))


def on_topic(markdown: str, keywords: Iterable[str]) -> float:
    """The share of the sentences, 0 to 1, with a word of one of ``keywords`` that says something."""
    wanted = {stem(word.text) for keyword in keywords for word in words_of(keyword) if not word.is_stop}
    sentences = sentences_of(markdown)
    hits = sum(not wanted.isdisjoint(stem(word.text) for word in words_of(one)) for one in sentences)
    return round(hits / len(sentences), 3) if sentences else 0.0


def own_shares(fingerprints: Sequence[str]) -> list[float]:
    """For each text, the share of its sentences, 0 to 1, that stand in no other word for word."""
    texts = [{text[at : at + _DIGEST] for at in range(0, len(text), _DIGEST)} for text in fingerprints]
    holders = Counter(one for text in texts for one in text)
    return [round(sum(holders[one] == 1 for one in text) / len(text), 3) if text else 0.0 for text in texts]


def quality(own: float, topic: float, words: int) -> float:
    """The worst of the three, 0 to 1: a text that fails in one is not saved by the others."""
    return round(min(own, topic, words / ENOUGH_WORDS, 1.0), 2)
