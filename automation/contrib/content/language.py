"""Enough English to name a group of search queries and to write about it: words, places, acronyms and title case."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.utils.text import slugify

VOCABULARY: dict[str, Any] = tomllib.loads((Path(__file__).parent / "vocabulary.toml").read_text(encoding="utf-8"))
ABBREVIATIONS: dict[str, str] = VOCABULARY["abbreviations"]


def _listed_words(name: str) -> list[str]:
    return [word.replace("_", " ") for word in VOCABULARY[name].split()]


ACRONYMS = frozenset(_listed_words("acronyms"))
PROPER = frozenset(_listed_words("proper"))
STOPWORDS = frozenset(_listed_words("stopwords"))
WEAK = frozenset(_listed_words("weak"))
LEADING = frozenset(_listed_words("leading"))
OFFICES = frozenset(_listed_words("offices"))
SMALL = frozenset(_listed_words("small"))
COUNTED = frozenset(_listed_words("counted"))
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)


@dataclass(frozen=True)
class Word:
    """One word of a query, in lower case; a place of several words is one word."""

    text: str
    is_place: bool = False

    @property
    def is_stop(self) -> bool:
        return self.text in STOPWORDS

    @property
    def is_weak(self) -> bool:
        return self.is_stop or self.is_place or self.text in WEAK or self.text.isdigit() or len(self.text) == 1


def _place_table() -> dict[tuple[str, ...], str]:
    table = {tuple(place.split()): place for place in _listed_words("places")}
    table.update({tuple(name.split()): "united states" for name in _listed_words("country")})
    table.update({(short,): full for short, full in ABBREVIATIONS.items()})
    return table


PLACES = _place_table()
LONGEST_PLACE = max(map(len, PLACES))


@lru_cache(maxsize=50_000)
def words_of(text: str) -> tuple[Word, ...]:
    """The words of ``text`` with places joined and their abbreviations written out."""
    tokens = WORD.findall(text.lower()) or ([text.strip().lower()] if text.strip() else [])
    found: list[Word] = []
    at = 0
    while at < len(tokens):
        for length in range(min(LONGEST_PLACE, len(tokens) - at), 0, -1):
            place = PLACES.get(tuple(tokens[at : at + length]))
            if place is not None:
                found.append(Word(place, is_place=True))
                at += length
                break
        else:
            found.append(Word(tokens[at]))
            at += 1
    return tuple(found)


def stem(word: str) -> str:
    """Plural and singular as one: ``taxes`` and ``tax``, ``licences`` and ``licence``."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def title_case(text: str) -> str:
    """``text`` as a headline: small words low unless first or last, acronyms high, known places as they are written."""
    tokens = text.split()
    last = len(tokens) - 1
    return " ".join(_titled(token, edge=at in (0, last)) for at, token in enumerate(tokens))


def _titled(token: str, *, edge: bool) -> str:
    low = token.lower()
    bare = low.strip("'\".,:;!?()")
    if bare in ACRONYMS or bare == "dc":
        return low.replace(bare, bare.upper())
    if bare in SMALL and not edge:
        return low
    return low[:1].upper() + low[1:]


def in_sentence(text: str) -> str:
    """``text`` as it stands inside a sentence: low, except for acronyms, places and known proper names."""
    words = words_of(text)
    if len(words) > 1 and words[0].text in OFFICES:
        return f"the {title_case(text)}"
    written: list[str] = []
    for word in words:
        if word.is_place:
            name = title_case(word.text)
            written.append(f"the {name}" if word.text == "united states" and not written else name)
        elif word.text in ACRONYMS:
            written.append(word.text.upper())
        elif word.text in PROPER:
            written.append(word.text.capitalize())
        else:
            written.append(word.text)
    return " ".join(written)


def sentence(text: str) -> str:
    """``text`` with its first letter high."""
    return text[:1].upper() + text[1:]


def listed(parts: Iterable[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    found = list(parts)
    if len(found) < 2:
        return "".join(found)
    return f"{', '.join(found[:-1])} {word} {found[-1]}"


def phrases_of(text: str, longest: int = 4) -> Iterator[tuple[Word, ...]]:
    """Every run of up to ``longest`` words that neither begins nor ends with a stop word."""
    words = words_of(text)
    for start in range(len(words)):
        if words[start].is_stop:
            continue
        for end in range(start + 1, min(start + longest, len(words)) + 1):
            if not words[end - 1].is_stop:
                yield words[start:end]


def slug_of(text: str) -> str:
    """A short ASCII file name for ``text``; text without any such letter gets a digest."""
    slug = slugify(text)[:60].strip("-")
    return slug or f"topic-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
