"""What makes a person look twice at a list of keywords: told in warnings, before a run starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from automation.inputs.grid import Grid

MOST_WORDS = 12
"""Longer ones are sentences; search engines take ten words."""
_MISSING = frozenset(
    (
        *("#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"),
        *("nan", "null", "none", "undefined", "\\n", "--"),
    )
)
"""What tools write where there is nothing."""
_NO_KEYWORDS = (
    (re.compile(r"[,;\t|]"), "hold a comma or another separator"),
    (re.compile(r"\A\s*([-*•–]|\d+[.)])\s"), "begin with the mark or number of a list"),
)


def of(grid: Grid, texts: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Sentences about the first keywords, which come with their places."""
    if sum(len(text.split()) > MOST_WORDS for _, text in texts) * 2 > len(texts):
        yield f"Most keywords have more than {MOST_WORDS} words: is this a list of keywords?"
    for pattern, what in _NO_KEYWORDS if grid.format == "lines" else ():
        found = [text for _, text in texts if pattern.search(text)]
        if texts and len(found) * 2 >= len(texts):
            yield f"Many lines {what}, which stays in the keyword: {found[0][:60]!r}. Expected is one keyword per line."
    for number, text in texts:
        if text.strip().casefold() in _MISSING:
            yield f"{grid.unit.capitalize()} {number:,} holds {text.strip()!r}, which is read as a keyword."
            return
