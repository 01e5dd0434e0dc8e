"""``python -m tests.architecture.vocabulary [path …]``: find phrases that ``vocabulary.toml`` bans.

Looks at every tracked text of ours: code, templates, documents. Prints one line per find, and exits with 1 if there
is any.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("automation", "backend", "benchmarks", "deploy", "docs", "examples", "pause_manager", "*.md", "Makefile")
SUFFIXES = {".py", ".html", ".js", ".md", ".yml", ".toml", ".txt", ""}
EXEMPT = ("/migrations/", "docs/adr/", "CHANGELOG.md", "/sample/", "vocabulary.toml", "/static/vendor/", ".min.js")
"""What records the past, or is not ours."""


@dataclass(frozen=True)
class Phrase:
    """A banned phrase and what to say instead."""

    pattern: re.Pattern[str]
    say: str


def phrases() -> list[Phrase]:
    """The banned phrases."""
    declared = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text())["phrase"]
    return [Phrase(re.compile(one["pattern"], re.IGNORECASE), one["say"]) for one in declared]


def finds(text: str, banned: Sequence[Phrase]) -> Iterator[tuple[int, str, str]]:
    """``(line, found, say instead)`` for each banned phrase in ``text``. A phrase may be broken by a line's end."""
    flat = re.sub(r"\n[ \t]*(#[ \t]?)?", lambda gap: " " * len(gap.group()), text)
    for phrase in banned:
        for found in phrase.pattern.finditer(flat):
            yield text.count("\n", 0, found.start()) + 1, found.group(), phrase.say


def files(places: Iterable[str]) -> Iterator[Path]:
    """The tracked texts below ``places``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *places], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in SUFFIXES and path.is_file() and not any(part in f"/{name}" for part in EXEMPT):
            yield path


def main(places: Sequence[str]) -> int:
    banned, count = phrases(), 0
    for path in files(places or PLACES):
        for line, found, say in sorted(finds(path.read_text(errors="replace"), banned)):
            count += 1
            print(f"{path.relative_to(ROOT)}:{line}: “{' '.join(found.split())}”; say: {say}")
    if count:
        print(f"{count} banned phrases. tests/architecture/vocabulary.toml lists them.")
    return bool(count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
