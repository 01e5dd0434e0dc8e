"""CSV and its kin: finds out what separates the cells, and reads the rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import BinaryIO

from automation import conf
from automation.inputs import text
from automation.inputs.grid import Grid, Row, trimmed
from automation.inputs.reader import refusal

DELIMITERS = "\t;,|"
LONGEST_CELL = 131_072
"""Characters; the csv module's own limit."""
SAMPLE_LINES = 300
SAMPLE_CHARACTERS = 256 << 10
_DIRECTIVE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


def sample_of(file: BinaryIO, encoding: str) -> list[str]:
    """The first lines; one that is very long is cut off, and is the last."""
    size = 0
    found: list[str] = []
    with text.opened(file, encoding) as opened:
        while len(found) < SAMPLE_LINES and size < SAMPLE_CHARACTERS:
            line = opened.readline(SAMPLE_CHARACTERS - size)
            if not line:
                break
            found.append(line)
            size += len(line)
    return found


def directive_in(sample: list[str]) -> str:
    """The delimiter that Excel's first line ``sep=;`` names, if there is one."""
    found = _DIRECTIVE.fullmatch(sample[0]) if sample else None
    return found.group(1) if found else ""


def parsed(sample: list[str], delimiter: str) -> list[list[str]]:
    """The cells of the first lines, as far as they can be read; blank ones are left out."""
    rows: list[list[str]] = []
    with suppress(csv.Error):  # the rows before a broken one count
        rows.extend(csv.reader(sample, delimiter=delimiter))
    return [row for row in rows if trimmed(row)]


def regularity(sample: list[str], delimiter: str) -> tuple[float, int]:
    """The share of rows that have as many cells as most have, and that number of cells; (0, 1) if it separates none."""
    rows = parsed(sample, delimiter)
    widths = Counter(len(trimmed(row)) for row in rows)
    if not rows or set(widths) == {1}:
        return 0.0, 1
    width, count = max(widths.items(), key=lambda one: (one[0] > 1, one[1], one[0]))
    # The last cells of a row are often empty: a row that is narrower but for one cell fits as well.
    return sum(many for one, many in widths.items() if 1 < one <= width) / len(rows) if count else 0.0, width


def delimiter_of(sample: list[str], *, is_tsv: bool) -> str:
    """What separates the cells of most rows, else of the first row; empty if nothing does."""
    if directive := directive_in(sample):
        return directive
    if is_tsv and any("\t" in line for line in sample):
        return "\t"
    best = max(DELIMITERS, key=lambda one: regularity(sample, one))
    if regularity(sample, best)[0] > 0.5:
        return best
    first = next((line for line in sample if line.strip()), "")
    best = max(DELIMITERS, key=first.count)
    return best if best in first else ""


def grid_of(
    file: BinaryIO, name: str, encoding: str, delimiter: str, *, has_directive: bool = False, warnings: tuple[str, ...]
) -> Grid:
    """The rows of ``file``; a row without a delimiter is one cell."""

    def rows() -> Iterator[Row]:
        with text.opened(file, encoding) as opened:
            yield from _rows(text.lines(opened, name), name, delimiter or ",", 1 if has_directive else 0)

    return Grid(name, _FORMATS.get(delimiter, "CSV"), rows, encoding=encoding, delimiter=delimiter, warnings=warnings)


_FORMATS = {"\t": "TSV"}


def lines_of(file: BinaryIO, name: str, encoding: str, warnings: tuple[str, ...]) -> Grid:
    """One cell a line, whatever it holds."""

    def rows() -> Iterator[Row]:
        with text.opened(file, encoding) as opened:
            for number, line in enumerate(text.lines(opened, name), start=1):
                cell = line.strip()
                if len(cell) > 1 and cell[0] == cell[-1] == '"':
                    cell = cell[1:-1].replace('""', '"').strip()
                yield number, [cell]

    return Grid(name, "lines", rows, encoding=encoding, warnings=warnings)


def _rows(lines: Iterator[str], name: str, delimiter: str, skip: int) -> Iterator[Row]:
    most_columns = conf.settings().max_input_columns
    reader = csv.reader(chain(islice(lines, skip, None)), delimiter=delimiter, strict=True)
    starts_at = 1 + skip
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            reason = _reason(error, reader.line_num + skip > starts_at)
            raise refusal(name, reason, "line", starts_at) from None
        if row is None:
            return
        if len(row) > most_columns:
            raise refusal(name, f"expected at most {most_columns:,} columns, got: {len(row):,}", "line", starts_at)
        yield starts_at, row
        starts_at = reader.line_num + skip + 1


def _reason(error: csv.Error, is_over_lines: bool) -> str:
    said = str(error)
    if "field larger than" in said and not is_over_lines:
        return f"a cell has more than {LONGEST_CELL:,} characters"
    if "unexpected end of data" in said or "field larger than" in said:
        return "a quote that opens here is never closed"
    return f"it is not valid CSV: {said}"
