"""What can be told of a group of searches from the searches themselves, with nothing added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from automation.contrib.content.language import in_sentence, listed, stem, title_case, words_of

MOST_QUOTED = 4

_MARKS = {
    "question": "how what where when who which why can could do does is are should",
    "form": "apply application applications form forms pdf print download file filing",
    "money": "cost costs price prices pay salary free cheap refund refunds fee fees loan loans",
    "rule": "law laws rule rules code codes regulation regulations requirement requirements",
    "office": "office offices department dept board bureau court center centers agency",
    "work": "job jobs employment career careers hiring",
}
KINDS = {kind: frozenset(words.split()) for kind, words in _MARKS.items()}
"""Words from which it can be seen what a search is for; those of ``question`` count only as its first."""


def quoted(keyword: str) -> str:
    return f"“{keyword}”"


def some(keywords: Sequence[str], most: int = MOST_QUOTED) -> str:
    """The first few, quoted, and how many more there are."""
    shown = [quoted(keyword) for keyword in keywords[:most]]
    more = len(keywords) - len(shown)
    return listed([*shown, f"{more} more"] if more else shown)


def telling(keyword: str) -> list[str]:
    """The words of ``keyword`` that say something, each once; all of it if none does."""
    words = dict.fromkeys(word.text for word in words_of(keyword) if not word.is_stop)
    return list(words) or [keyword]


@dataclass(frozen=True)
class Searches:
    """A group of searches."""

    name: str
    """Of the group, as a headline."""
    keywords: Sequence[str]
    volumes: Mapping[str, int]
    """How often each is searched for, where the input says so."""
    size: int = 0
    """How many the group has, if these are only its first."""

    @property
    def these(self) -> str:
        """``the 8 searches about income tax``, or how many of them."""
        count = len(self.keywords)
        number = f"{count} of the {self.size:,}" if self.size > count else f"the {count}"
        return f"{number} searches about {self.topic}"

    @property
    def topic(self) -> str:
        return in_sentence(self.name)

    @property
    def is_single(self) -> bool:
        return len(self.keywords) == 1

    def by_length(self) -> list[str]:
        """From the one with the fewest words to the one with the most."""
        return sorted(self.keywords, key=lambda keyword: (len(words_of(keyword)), len(keyword), keyword))

    def shared(self) -> list[tuple[str, list[str]]]:
        """Words in several of them, in plural or singular, with those that have it; the most frequent first."""
        found = {word: keywords for word, keywords in self._by_word().items() if len(keywords) > 1}
        return sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))

    def own(self) -> list[tuple[str, list[str]]]:
        """Each with the words that no other of them has, if it has such."""
        holders = self._by_stem()
        pairs = [(one, [word for word in telling(one) if len(holders[stem(word)]) == 1]) for one in self.keywords]
        return [(keyword, words) for keyword, words in pairs if words]

    def places(self) -> dict[str, list[str]]:
        """The places that they name, as they are written, with those that name each."""
        found: dict[str, list[str]] = {}
        for keyword in self.keywords:
            for place in dict.fromkeys(word.text for word in words_of(keyword) if word.is_place):
                found.setdefault(title_case(place), []).append(keyword)
        return found

    def of_kind(self, kind: str) -> list[str]:
        """Those of which the words say that they are of this kind."""
        return [keyword for keyword in self.keywords if KINDS[kind] & _where_marked(keyword, kind)]

    def alike(self) -> list[tuple[str, str, list[str]]]:
        """Pairs with the words that they share, the nearest first."""
        pairs = []
        for one, other in combinations(self.keywords, 2):
            mine, theirs = telling(one), {stem(word) for word in telling(other)}
            if both := [word for word in mine if stem(word) in theirs]:
                nearness = len(both) / len({stem(word) for word in mine} | theirs)
                pairs.append((-nearness, one, other, both))
        return [(one, other, both) for _, one, other, both in sorted(pairs)]

    def words(self) -> list[str]:
        """All their different words."""
        return list(dict.fromkeys(word.text for keyword in self.keywords for word in words_of(keyword)))

    def _by_stem(self) -> dict[str, list[str]]:
        holders: dict[str, list[str]] = {}
        for keyword in self.keywords:
            for one in {stem(word) for word in telling(keyword)}:
                holders.setdefault(one, []).append(keyword)
        return holders

    def _by_word(self) -> dict[str, list[str]]:
        """The same under the first form of each word that comes."""
        holders = self._by_stem()
        forms: dict[str, str] = {}
        for keyword in self.keywords:
            for word in telling(keyword):
                forms.setdefault(stem(word), word)
        return {forms[one]: keywords for one, keywords in holders.items()}


def _where_marked(keyword: str, kind: str) -> set[str]:
    words = [word.text for word in words_of(keyword)]
    return set(words[:1] if kind == "question" else words)
