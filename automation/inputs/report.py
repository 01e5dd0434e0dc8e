"""What was seen in an input: its form, its first items, what is left out and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Payload = dict[str, Any]
FIRST_ITEMS = 5
EXAMPLES = 3
LONGEST_EXAMPLE = 120
LONGEST_WARNING = 300
MOST_COLUMNS = 50
"""Columns that a report names; the count of all is told beside them."""

BLANK = "blank"
DUPLICATE = "duplicate"
BEFORE_HEADER = "before_header"
TOTAL = "total"
REPEATED_HEADER = "repeated_header"
OTHER_PART = "other_part"

_WORDS = {
    BLANK: ("blank row", "blank rows"),
    DUPLICATE: ("duplicate", "duplicates"),
    BEFORE_HEADER: ("row before the header", "rows before the header"),
    TOTAL: ("total after the last row", "totals after the last row"),
    REPEATED_HEADER: ("repeated header", "repeated headers"),
    OTHER_PART: ("other part of the file", "other parts of the file"),
}


def example_of(cells: Iterable[Any]) -> str:
    """Cells as one short text."""
    text = ", ".join(str(cell).strip() for cell in cells if cell not in (None, ""))
    return _shortened(text)


def _shortened(text: str, most: int = LONGEST_EXAMPLE) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


@dataclass
class Tally:
    """What one reading of an input has left out so far, by kind; each with a few examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, kind: str, example: str = "") -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if example and len(known := self.examples.setdefault(kind, [])) < EXAMPLES:
            known.append(example)


@dataclass(frozen=True)
class LeftOut:
    """``count`` of one kind that became no items."""

    kind: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        one, many = _WORDS[self.kind]
        return f"{self.count:,} {one if self.count == 1 else many}"


@dataclass(frozen=True)
class Report:
    """How an input is read. ``warnings`` are sentences that a person should read before the run starts."""

    name: str
    format: str
    """``CSV``, ``lines``, ``JSON``, ``JSON lines``, ``Excel`` or ``items``."""
    part: str = ""
    """The member of an archive or the sheet of a workbook that is read."""
    encoding: str = ""
    delimiter: str = ""
    unit: str = "line"
    """What places are counted in: ``line``, ``row`` or ``item``."""
    header_at: int | None = None
    columns: tuple[str, ...] = ()
    count: int = 0
    first_items: tuple[Payload, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()

    def number_left_out(self, kind: str) -> int:
        return next((one.count for one in self.left_out if one.kind == kind), 0)

    def counted(self, tally: Tally, count: int, first: Iterable[Payload]) -> Report:
        """This report with what a whole reading found."""
        left_out = [LeftOut(kind, number, tuple(tally.examples.get(kind, ()))) for kind, number in tally.counts.items()]
        return replace(self, count=count, first_items=tuple(first), left_out=(*self.left_out, *left_out))

    def figures(self) -> dict[str, Any]:
        """The report as JSON, without anything of the items: for the event, which outlives them."""
        return {
            "name": _shortened(self.name),
            "format": self.format,
            "part": _shortened(self.part),
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "header_at": self.header_at,
            "columns": [_shortened(column) for column in self.columns[:MOST_COLUMNS]],
            "column_count": len(self.columns),
            "items": self.count,
            "left_out": [{"kind": one.kind, "count": one.count} for one in self.left_out],
        }

    def details(self) -> dict[str, Any]:
        """The figures with examples of what is left out, and the warnings: for the author of the input."""
        left_out = [
            {"kind": one.kind, "count": one.count, "examples": [_shortened(example) for example in one.examples]}
            for one in self.left_out
        ]
        warnings = [_shortened(warning, LONGEST_WARNING) for warning in self.warnings]
        return {**self.figures(), "left_out": left_out, "warnings": warnings}

    def form(self) -> str:
        """The form of the input in words: ``CSV, UTF-8, header in line 3, 17 columns``."""
        words = [self.format]
        if self.part:
            words.append(f"“{self.part}”")
        if self.encoding:
            words.append(_ENCODINGS.get(self.encoding, self.encoding))
        if self.delimiter:
            words.append(f"separated by {_DELIMITERS.get(self.delimiter, self.delimiter)}")
        if self.header_at is not None:
            words.append(f"header in {self.unit} {self.header_at:,}")
        if self.columns:
            words.append("1 column" if len(self.columns) == 1 else f"{len(self.columns)} columns")
        return ", ".join(words)

    def sentences(self) -> Iterator[str]:
        """What is left out, each kind with examples, and the warnings."""
        for one in self.left_out:
            yield f"Left out: {one}{': ' + '; '.join(one.examples) if one.examples else ''}."
        for warning in self.warnings:
            yield f"Warning: {warning}"


_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_ENCODINGS: Mapping[str, str] = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32"}
