"""What the offline writer can say of a group of searches: each angle is an article of a few sentences, all derived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automation.contrib.content.language import in_sentence, listed, sentence, words_of
from automation.contrib.content.providers.base import Section
from automation.contrib.content.providers.searches import Searches, quoted, some, telling

MOST_LINES = 5

Text = tuple[str, list[Section], str]
"""Introduction, sections and conclusion."""


@dataclass(frozen=True)
class Angle:
    """``{topic}`` is the topic as a headline in ``title`` and inside a sentence in ``summary``."""

    slug: str
    title: str
    summary: str
    write: Callable[[Searches], Text]
    least_keywords: int = 1
    least_places: int = 0

    def fits(self, searches: Searches) -> bool:
        return len(searches.keywords) >= self.least_keywords and len(searches.places()) >= self.least_places


def _overview(it: Searches) -> Text:
    if it.is_single:
        (keyword,) = it.keywords
        says = listed(map(quoted, telling(keyword)))
        intro = f"One search of this run was grouped with no other: {quoted(keyword)}."
        body = [f"What it is about is said by {says}.", *_volume(it)]
        body += [f"It names {listed(it.places())}."] if it.places() else []
        return intro, [Section("The Search", " ".join(body))], f"There is no second search on {it.topic} in this run."
    intro = f"This run has put together {it.these}: {some(it.keywords, 8)}."
    shared = [_shared(it, word, keywords) for word, keywords in it.shared()[:3]]
    own = [f"Only {quoted(keyword)} says {listed(map(quoted, words))}." for keyword, words in it.own()[:MOST_LINES]]
    sections = [Section("What They Share", " ".join(shared))] if shared else []
    sections += [Section("What Sets Them Apart", " ".join(own))] if own else []
    close = " ".join(_volume(it)) or f"People who searched for {it.topic} wrote it in {len(it.keywords)} ways here."
    return intro, sections, close


def _shared(it: Searches, word: str, keywords: Sequence[str]) -> str:
    if len(keywords) < len(it.keywords):
        return f"{quoted(word)} is common to {some(keywords)}."
    every = "Both" if len(keywords) == 2 else f"All {len(keywords)}"
    return f"{every} searches about {it.topic} have the word {quoted(word)}."


def _volume(it: Searches) -> list[str]:
    """How often they are searched for, if the input says so."""
    known = {keyword: it.volumes[keyword] for keyword in it.keywords if keyword in it.volumes}
    if not known:
        return []
    most = max(known, key=lambda keyword: (known[keyword], keyword))
    if it.is_single:
        return [f"The input gives {quoted(most)} a volume of {known[most]:,}."]
    total = f"The input gives the searches about {it.topic} a volume of {sum(known.values()):,} in all"
    return [f"{total}, and {quoted(most)} the most of it: {known[most]:,}."]


def _words(it: Searches) -> Text:
    words = it.words()
    if it.is_single:
        (keyword,) = it.keywords
        intro = f"The search {quoted(keyword)} has {_counted(len(words_of(keyword)), 'word')}."
        pairs = telling(keyword)
        body = [f"Without its small words {quoted(keyword)} reads: {', '.join(pairs)}."]
        if len(words) > 1:
            body.append(f"{quoted(keyword)} begins with {quoted(words[0])} and ends in {quoted(words[-1])}.")
        return intro, [Section("Word by Word", " ".join(body))], f"To find it, a page on {it.topic} needs these words."
    shortest, *_, longest = it.by_length()
    mean = sum(len(words_of(keyword)) for keyword in it.keywords) / len(it.keywords)
    intro = f"{sentence(it.these)} are written with {len(words)} different words, {mean:.1f} in a search."
    counts = [
        f"{quoted(word)} comes {len(keywords)} times among the {len(words)} words about {it.topic}."
        for word, keywords in it.shared()[:MOST_LINES]
    ]
    ends = dict.fromkeys(words_of(keyword)[-1].text for keyword in it.keywords if words_of(keyword))
    starts = dict.fromkeys(words_of(keyword)[0].text for keyword in it.keywords if words_of(keyword))
    sections = [Section("How Often Each Word Comes", " ".join(counts))] if counts else []
    if ends:
        edges = (
            f"Searches about {it.topic} begin with {listed(map(quoted, list(starts)[:6]))}."
            f" They end in {listed(map(quoted, list(ends)[:6]))}."
        )
        sections.append(Section("First and Last Words", edges))
    close = f"The shortest of these searches is {quoted(shortest)}, the longest {quoted(longest)}."
    return intro, sections, close


def _asks(it: Searches) -> Text:
    lines = []
    told: set[str] = set()
    for kind, (one, several) in _ASKED.items():
        found = it.of_kind(kind)
        told.update(found)
        if found:
            lines.append(f"{some(found)} {one if len(found) == 1 else several}.")
    named = it.places()
    if named:
        found = list(dict.fromkeys(keyword for keywords in named.values() for keyword in keywords))
        told.update(found)
        lines.append(f"{some(found)} {'asks' if len(found) == 1 else 'ask'} about {listed(list(named)[:6])}.")
    rest = [keyword for keyword in it.keywords if keyword not in told]
    if rest:
        verb = "says what it is about" if len(rest) == 1 else "say what they are about"
        lines.append(f"{some(rest)} {verb}, but not what for.")
    intro = (
        f"The search {quoted(it.keywords[0])} is all there is here on {it.topic}: this is what its words ask for."
        if it.is_single
        else f"This is what {it.these} ask for, as far as their words say it."
    )
    count = len(told)
    close = (
        f"What {quoted(it.keywords[0])} is for {'can' if told else 'cannot'} be seen from its words."
        if it.is_single
        else f"Of {len(it.keywords)} searches about {it.topic}, {count} {'says' if count == 1 else 'say'} what for."
    )
    return intro, [Section("By What Is Asked", _bulleted(lines))], close


_ASKED = {
    "question": ("is written as a question", "are written as questions"),
    "form": ("asks for a form or a way to apply", "ask for forms or a way to apply"),
    "money": ("has a word for money in it", "have a word for money in them"),
    "rule": ("asks for a rule", "ask for rules"),
    "office": ("names an office", "name offices"),
    "work": ("is about work", "are about work"),
}


def _outline(it: Searches) -> Text:
    order = it.by_length()
    lines = [
        f"{quoted(keyword)}: a page that says what is to be known of {listed(telling(keyword))}" for keyword in order
    ]
    if it.is_single:
        intro = f"A page that is to answer {quoted(order[0])} has one question before it."
        close = f"Whether such a page on {in_sentence(it.name)} is worth writing, {quoted(order[0])} alone cannot tell."
    else:
        intro = f"Pages for {it.these} could be written in this order, from {quoted(order[0])} to {quoted(order[-1])}."
        close = f"The first of them answers the most general search on {it.topic}, the last the most particular."
    return intro, [Section("One Page for Each Search", _bulleted(f"{line}." for line in lines))], close


def _pairs(it: Searches) -> Text:
    pairs = it.alike()
    if not pairs:
        names = some(it.keywords, 8)
        intro = f"No two of the searches about {it.topic} share a word that says something: {names}."
        return intro, [], f"They were grouped as {it.topic} because nothing else in the run is nearer."
    lines = [f"{quoted(one)} and {quoted(other)} share {listed(both)}." for one, other, both in pairs[:MOST_LINES]]
    intro = f"Some searches about {it.topic} are so near to each other that one page may answer both."
    one, other, _ = pairs[0]
    close = f"The nearest pair on {it.topic} is {quoted(one)} with {quoted(other)}."
    return intro, [Section("Pairs, the Nearest First", _bulleted(lines))], close


def _places(it: Searches) -> Text:
    named = it.places()
    lines = [f"{place} is named by {some(keywords)}." for place, keywords in named.items()]
    intro = f"The searches about {it.topic} name {len(named)} places: {listed(list(named)[:8])}."
    without = [one for one in it.keywords if not any(one in keywords for keywords in named.values())]
    close = (
        f"{some(without)} {'names' if len(without) == 1 else 'name'} no place."
        if without
        else f"There is no search about {it.topic} here without a place."
    )
    return intro, [Section("Place by Place", _bulleted(lines[:8]))], close


def _bulleted(lines: object) -> str:
    return "\n".join(f"- {line}" for line in lines)  # type: ignore[attr-defined]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


ANGLES: Sequence[Angle] = (
    Angle(
        "overview", "{topic}: What People Search For", "The searches about {topic} and what sets them apart.", _overview
    ),
    Angle("asks", "{topic}: What the Searches Ask For", "What searches about {topic} ask for.", _asks),
    Angle("words", "{topic}: The Words of the Searches", "The words in which {topic} is searched for.", _words),
    Angle("places", "{topic} by Place", "The places that searches about {topic} name.", _places, least_places=2),
    Angle(
        "pairs",
        "{topic}: Searches That Are Nearly Alike",
        "Which searches about {topic} one page may answer.",
        _pairs,
        2,
    ),
    Angle("outline", "{topic}: One Page for Each Search", "An order for pages on {topic}.", _outline),
)
BY_SLUG = {angle.slug: angle for angle in ANGLES}
