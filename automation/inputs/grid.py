"""Rows of cells, from whatever file they come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

SAMPLE_ROWS = 200

Row = tuple[int, list[Any]]
"""The number of the line or row, and its cells: texts, or what a workbook has."""


@dataclass(frozen=True)
class Grid:
    """Rows that can be read any number of times. Reading raises ``InvalidInput`` at a row that is broken."""

    name: str
    format: str
    rows: Callable[[], Iterator[Row]]
    unit: str = "line"
    is_padded: bool = False
    """Empty cells at the end of a row may be missing."""
    part: str = ""
    encoding: str = ""
    delimiter: str = ""
    warnings: tuple[str, ...] = field(default=())

    def sample(self) -> list[Row]:
        """The first rows that are not blank."""
        return list(islice((row for row in self.rows() if not is_blank(row[1])), SAMPLE_ROWS))


def is_blank(cells: Sequence[Any]) -> bool:
    for cell in cells:
        if cell is None or cell == "":
            continue
        if not isinstance(cell, str) or cell.strip():
            return False
    return True


def filled(cells: Sequence[Any]) -> int:
    """How many cells hold something."""
    return sum(1 for cell in cells if cell is not None and (not isinstance(cell, str) or cell.strip()))


def trimmed(cells: list[Any]) -> list[Any]:
    """Without the empty cells at the end."""
    end = len(cells)
    while end and (cells[end - 1] is None or (isinstance(cells[end - 1], str) and not cells[end - 1].strip())):
        end -= 1
    return cells[:end]


EMPTY, NUMBER, DATE, ADDRESS, TEXT = "empty", "number", "date", "address", "text"
_NUMBER = re.compile(
    r"[<>~≈]?\s*[-+−]?\s*[$€£¥]?\s*\d[\d.,'’\s\u00a0\u202f]*\s*([%$€£¥]|[KkMm])?|-{1,2}|–|—|n/a", re.IGNORECASE
)
_DATE = re.compile(r"\d{4}-\d{2}(-\d{2}([T ][\d:.]+Z?)?)?|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}")
_ADDRESS = re.compile(r"(https?://|www\.)\S+|[^@\s]+@[^@\s]+\.\w+", re.IGNORECASE)


def kind_of(cell: Any) -> str:
    """What a cell holds: nothing, a number (with unit, in any country's notation), a date, a web address, or text."""
    if cell is None:
        return EMPTY
    if isinstance(cell, bool):
        return TEXT
    if isinstance(cell, int | float):
        return NUMBER
    text = str(cell).strip()
    if not text:
        return EMPTY
    if _DATE.fullmatch(text):
        return DATE
    if _NUMBER.fullmatch(text):
        return NUMBER
    return ADDRESS if _ADDRESS.fullmatch(text) else TEXT


def looks_like_data(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a row that should name the columns holds what the rows below it hold: numbers under numbers, say."""
    for index, cell in enumerate(header):
        kind = kind_of(cell)
        if kind in (EMPTY, TEXT) or _is_year(cell):
            continue
        below = [kind_of(row[index]) for row in rows if index < len(row)]
        below = [one for one in below if one != EMPTY]
        if not below or below.count(kind) * 2 > len(below):
            return True
    return False


def _is_year(cell: Any) -> bool:
    return bool(re.fullmatch(r"(19|20)\d\d", str(cell).strip()))
