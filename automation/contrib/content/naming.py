"""Readable, unique names for groups of search queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from automation.contrib.content.language import COUNTED, LEADING, Word, phrases_of, title_case, words_of

LENGTH_WEIGHT = (0.0, 1.0, 1.7, 1.9, 1.95)
LONGEST_NAME = 60
SAMPLE = 300
LEAST_SHARED = 0.05
MIXED = "miscellaneous searches"

Phrase = tuple[Word, ...]


class Namer:
    """Hands out names and never the same one twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, keywords: Sequence[str]) -> str:
        """What ``keywords`` have in common, as a headline."""
        for candidate in self._candidates(keywords[:SAMPLE]):
            name = shortened(title_case(pluralized(candidate)))
            if name.casefold() not in self._taken:
                self._taken.add(name.casefold())
                return name
        raise AssertionError("numbered candidates never end")

    def _candidates(self, keywords: Sequence[str]) -> Iterator[str]:
        ranked = rank(keywords)
        yield from (text_of(phrase) for phrase in ranked[:1])
        if ranked and ranked[0] != (Word(MIXED),):
            best = text_of(ranked[0])
            yield from (f"{best} in {place}" for place in common_places(keywords)[:1])
            longer = [phrase for phrase in ranked[1:12] if len(phrase) > 1]
            yield from (text_of(phrase) for phrase in longer)
            yield from (f"{best} and {text_of(phrase)}" for phrase in ranked[1:6] if not set(phrase) & set(ranked[0]))
        base = text_of(ranked[0]) if ranked else keywords[0]
        yield keywords[0]
        yield from (f"{base} {number}" for number in range(2, 1_000_000))


def rank(keywords: Sequence[str]) -> list[Phrase]:
    """Phrases of ``keywords`` that could name them all, best first: many share it, and it says more than one word."""
    if len(keywords) == 1:
        return [core(keywords[0])]
    shared: Counter[Phrase] = Counter()
    for keyword in keywords:
        shared.update({phrase for phrase in phrases_of(keyword) if is_nameable(phrase)})
    ranked = sorted(shared, key=lambda phrase: (-shared[phrase] * LENGTH_WEIGHT[len(phrase)], text_of(phrase)))
    if not ranked or shared[ranked[0]] < LEAST_SHARED * len(keywords):
        return [(Word(MIXED),)]
    if len(ranked[0]) == 1:
        telling = [it for it in ranked if 1 < len(it) < 4 and ranked[0][0] in it and shared[it] > 1]
        ranked = telling[:1] + [it for it in ranked if it not in telling[:1]]
    if len(ranked[0]) == 1 and not any(words_of(keyword)[-1] == ranked[0][0] for keyword in keywords):
        ranked[0] = (*ranked[0], Word("topics"))
    return ranked


def pluralized(name: str) -> str:
    """``name`` in the plural if it ends in something that one would count: ``highway map`` → ``highway maps``."""
    return f"{name}s" if name.rsplit(" ", 1)[-1] in COUNTED else name


def is_nameable(phrase: Phrase) -> bool:
    """Says something by itself: a strong word, no verb in front, no place at either end."""
    if all(word.is_weak for word in phrase) or phrase[0].is_place or phrase[-1].is_place:
        return False
    return phrase[0].text not in LEADING


def core(keyword: str) -> Phrase:
    """``keyword`` without the question and the verb in front of it, e.g. ``blood pressure test``."""
    words = list(words_of(keyword))
    while len(words) > 1 and (words[0].is_stop or words[0].text in LEADING):
        words.pop(0)
    while len(words) > 1 and words[-1].is_stop:
        words.pop()
    return tuple(words)


def common_places(keywords: Sequence[str]) -> list[str]:
    counts = Counter(word.text for keyword in keywords for word in words_of(keyword) if word.is_place)
    return sorted(counts, key=lambda place: (-counts[place], place))


def text_of(phrase: Phrase) -> str:
    """``phrase`` as one would say it: ``school jobs kentucky`` → ``school jobs in kentucky``."""
    words = [word.text for word in phrase]
    if len(phrase) > 1 and phrase[-1].is_place and not phrase[-2].is_stop and not phrase[-2].is_place:
        words.insert(-1, "in")
    return " ".join(words)


def shortened(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    cut = name[:LONGEST_NAME].rsplit(" ", 1)[0]
    return f"{cut}…"
