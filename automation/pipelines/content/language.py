"""Enough English to name a group of search queries and to write about it: words, places, acronyms and title case."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from django.utils.text import slugify

STATES = [
    "alabama",
    "alaska",
    "arizona",
    "arkansas",
    "california",
    "colorado",
    "connecticut",
    "delaware",
    "florida",
    "georgia",
    "hawaii",
    "idaho",
    "illinois",
    "indiana",
    "iowa",
    "kansas",
    "kentucky",
    "louisiana",
    "maine",
    "maryland",
    "massachusetts",
    "michigan",
    "minnesota",
    "mississippi",
    "missouri",
    "montana",
    "nebraska",
    "nevada",
    "ohio",
    "oklahoma",
    "oregon",
    "pennsylvania",
    "tennessee",
    "texas",
    "utah",
    "vermont",
    "virginia",
    "washington",
    "wisconsin",
    "wyoming",
    "new_hampshire",
    "new_jersey",
    "new_mexico",
    "new_york",
    "north_carolina",
    "north_dakota",
    "rhode_island",
    "south_carolina",
    "south_dakota",
    "west_virginia",
    "puerto_rico",
]
OTHER_PLACES = [
    "canada",
    "mexico",
    "england",
    "france",
    "germany",
    "italy",
    "spain",
    "china",
    "india",
    "japan",
    "australia",
    "europe",
    "new_york_city",
    "new_york_state",
    "washington_state",
    "washington_dc",
    "los_angeles",
    "las_vegas",
    "san_francisco",
    "san_diego",
    "san_antonio",
    "new_orleans",
    "long_beach",
    "kansas_city",
    "salt_lake_city",
    "chicago",
    "houston",
    "dallas",
    "miami",
    "atlanta",
    "boston",
    "seattle",
    "denver",
    "phoenix",
    "philadelphia",
    "detroit",
    "orange_county",
    "grand_canyon",
    "united_kingdom",
]
COUNTRY = ("us", "usa", "united states", "united states of america", "america")
ABBREVIATIONS = {
    "az": "arizona", "ca": "california", "ct": "connecticut", "dc": "washington dc", "fl": "florida", "ga": "georgia",
    "ma": "massachusetts", "md": "maryland", "pa": "pennsylvania", "wa": "washington",
    "ia": "iowa", "il": "illinois", "ks": "kansas", "ky": "kentucky", "mi": "michigan", "mn": "minnesota",
    "nc": "north carolina", "nh": "new hampshire", "nj": "new jersey", "nm": "new mexico", "nv": "nevada",
    "ny": "new york", "nyc": "new york city", "nys": "new york state", "oh": "ohio", "sc": "south carolina",
    "sd": "south dakota", "tn": "tennessee", "tx": "texas", "ut": "utah", "vt": "vermont", "wi": "wisconsin",
    "wv": "west virginia", "wy": "wyoming",
}  # fmt: skip
ACRONYMS = frozenset(
    [
        "us",
        "usa",
        "va",
        "irs",
        "hud",
        "usda",
        "hiv",
        "aids",
        "dmv",
        "fbi",
        "cdc",
        "epa",
        "fha",
        "gps",
        "hr",
        "it",
        "tv",
        "uk",
        "un",
        "nasa",
        "ssi",
        "ssa",
        "gi",
        "gmat",
        "sat",
        "ged",
        "pdf",
        "dvd",
        "cd",
        "dna",
        "rv",
        "suv",
        "mba",
        "rn",
        "lpn",
        "cna",
        "cpr",
        "ira",
        "hvac",
        "seo",
        "faq",
        "vin",
    ]
)
PROPER = frozenset(
    [
        "katrina",
        "medicare",
        "medicaid",
        "american",
        "americans",
        "english",
        "spanish",
        "christian",
        "jewish",
        "african",
        "european",
        "internet",
        "google",
        "microsoft",
        "apple",
    ]
)
STOPWORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "for",
        "to",
        "and",
        "or",
        "at",
        "by",
        "with",
        "from",
        "as",
        "is",
        "are",
        "was",
        "be",
        "do",
        "does",
        "did",
        "can",
        "could",
        "will",
        "would",
        "should",
        "i",
        "my",
        "me",
        "we",
        "our",
        "you",
        "your",
        "he",
        "she",
        "it",
        "its",
        "they",
        "their",
        "this",
        "that",
        "these",
        "those",
        "how",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "if",
        "than",
        "into",
        "about",
        "over",
        "under",
        "up",
        "down",
        "out",
        "not",
        "no",
        "vs",
        "via",
        "per",
        "s",
    ]
)
WEAK = frozenset(
    [
        "state",
        "national",
        "federal",
        "get",
        "find",
        "free",
        "online",
        "info",
        "information",
        "list",
        "best",
        "new",
        "much",
        "many",
        "way",
        "people",
        "use",
        "used",
        "need",
        "help",
        "good",
        "make",
        "site",
        "website",
        "search",
        "number",
        "public",
        "general",
        "program",
        "programs",
        "service",
        "services",
        "first",
        "board",
        "department",
        "departments",
        "dept",
        "office",
        "center",
        "centers",
        "system",
        "form",
        "forms",
        "government",
        "authority",
        "institute",
        "development",
        "administration",
        "requirement",
        "requirements",
        "question",
        "questions",
    ]
)
LEADING = frozenset(
    [
        "file",
        "find",
        "get",
        "apply",
        "buy",
        "sell",
        "make",
        "take",
        "check",
        "search",
        "look",
        "pass",
        "start",
        "earn",
        "lose",
        "download",
        "print",
        "order",
        "filing",
        "finding",
        "getting",
        "applying",
        "buying",
    ]
)
OFFICES = frozenset("department dept board bureau office center centers institute ministry".split())
SMALL = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "for",
        "to",
        "and",
        "or",
        "at",
        "by",
        "with",
        "from",
        "as",
        "nor",
        "but",
        "vs",
        "via",
        "per",
    ]
)
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
    table = {tuple(place.split("_")): place.replace("_", " ") for place in [*STATES, *OTHER_PLACES]}
    table.update({tuple(name.split()): "united states" for name in COUNTRY})
    table.update({(short,): full for short, full in ABBREVIATIONS.items()})
    return table


PLACES = _place_table()
LONGEST_PLACE = max(map(len, PLACES))
PLACE_NAMES = frozenset(PLACES.values())


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


def places_of(texts: Iterable[str]) -> list[str]:
    """The places named in ``texts``, in title case, most frequent first, the whole country left out."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in words_of(text):
            if word.is_place and word.text != "united states":
                counts[word.text] = counts.get(word.text, 0) + 1
    return [title_case(place) for place in sorted(counts, key=lambda place: (-counts[place], place))]


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
