"""What the offline writer knows of the world: one TOML file a theme, chosen by the words of the keywords."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from automation.pipelines.content.language import words_of

FOLDER = Path(__file__).parent / "themes"
GENERAL = "general"
SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Theme:
    """Sentences that hold for any topic of the theme; lists are in no particular order, ``steps`` excepted."""

    name: str
    order: int
    stems: Sequence[str]
    """Words that speak for the theme; those of four letters and more also as the beginning of a word."""
    audience: Sequence[str]
    motif: str
    overview: Sequence[str]
    steps: Sequence[str]
    prepare: Sequence[str]
    mistakes: Sequence[str]
    compare: Sequence[Sequence[str]]
    """Question and why it matters."""
    sources: Sequence[str]
    faq: Sequence[Sequence[str]]
    """Question and answer."""
    titles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By angle, where the usual titles would be out of place; ``summaries`` likewise."""
    summaries: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def weight(self, word: str) -> int:
        """1 if ``word`` speaks for the theme, else 0."""
        is_whole = word in self.stems or word.removesuffix("s") in self.stems
        return int(is_whole or any(len(stem) >= SHORTEST_PREFIX and word.startswith(stem) for stem in self.stems))


@cache
def all_themes() -> dict[str, Theme]:
    themes = [
        Theme(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8"))) for path in FOLDER.glob("*.toml")
    ]
    return {theme.name: theme for theme in sorted(themes, key=lambda theme: theme.order)}


def theme_of(topic: str, keywords: Iterable[str]) -> Theme:
    """The theme that most words speak for; ties go to the lower ``order``.

    The topic's own words count threefold, and its last one, which says what it is, as much as all keywords together.
    """
    themes = all_themes()
    keywords = list(keywords)
    named = [word.text for word in words_of(topic) if not word.is_place]
    words = named * 3 + named[-1:] * len(keywords)
    words += [word.text for keyword in keywords for word in words_of(keyword)]
    scores = {name: sum(map(theme.weight, words)) for name, theme in themes.items()}
    best = max(scores, key=lambda name: (scores[name], -themes[name].order))
    return themes[best if scores[best] else GENERAL]
