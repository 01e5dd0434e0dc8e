"""The table in a grid: its header, what comes before it and after it, and its rows as items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from automation.errors import InvalidInput
from automation.inputs.grid import Grid, Row, filled, is_blank, kind_of, looks_like_data, trimmed
from automation.inputs.reader import refusal
from automation.inputs.report import (
    BEFORE_HEADER,
    BLANK,
    EXAMPLES,
    REPEATED_HEADER,
    TOTAL,
    LeftOut,
    Payload,
    Report,
    Tally,
    example_of,
)

_TOTAL_OF = re.compile(r"\s*(sub|grand )?totals?\s*:", re.IGNORECASE)
_TOTAL_ALONE = re.compile(
    r"\s*((grand |sub)?totals?|gesamt(summe)?|summe|total général|totale|totaal|suma|razem|итого|всего|合計|总计)\s*",
    re.IGNORECASE,
)


MOST_TOTALS = 100
"""Rows that may be totals at the end: they are kept until the end is there."""
_TOTAL_BEGINS = frozenset("tTgGsSrRиИвВ合总 \t")
"""Most rows are told apart by their first letter."""


@dataclass(frozen=True)
class Head:
    """Where a table begins. ``at`` is the number of its header row, ``None`` if it has none."""

    at: int | None
    columns: tuple[str, ...]
    before: tuple[Row, ...] = ()
    header: tuple[str, ...] = ()
    """The header's cells as the file has them, trimmed."""
    warnings: tuple[str, ...] = ()


def column_names(cells: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns, without the spaces and quotes around them, and a warning for each that had none."""
    names = []
    warnings = []
    for number, cell in enumerate(trimmed(list(cells)), start=1):
        text = str("" if cell is None else cell).replace("\ufeff", "").strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1].replace('""', '"').strip()
        if not text:
            text = f"column {number}"
            warnings.append(f"Column {number} has no name; it is called {text!r}.")
        names.append(text)
    return tuple(names), tuple(warnings)


def check_names(grid: Grid, at: int | None, columns: Sequence[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise refusal(grid.name, f"two columns are named {column!r}", grid.unit, at)


def first_of_table(sample: Sequence[Row]) -> int:
    """The index of the row that the table begins with: titles above it are narrower than it and its rows."""
    widths = sorted((filled(cells) for _, cells in sample), reverse=True)
    wide = widths[1] if len(widths) > 1 else widths[0]
    for index in range(len(sample)):
        if not _is_above(sample, index, wide):
            return index
    return 0


def _is_above(sample: Sequence[Row], index: int, wide: int) -> bool:
    number, cells = sample[index]
    width = filled(cells)
    if width >= wide or index + 1 >= len(sample):
        return False
    if width == 1 and not is_blank(cells[:1]):
        if wide >= 4:
            return True
        is_parted = sample[index + 1][0] > number + 1
        return wide > 1 and (is_parted or re.search(r"[\s\d:]", str(cells[0]).strip()) is not None)
    return width == 2 and wide >= 5


def head_of(grid: Grid, sample: Sequence[Row]) -> Head:
    """The header of any table. Raises :class:`InvalidInput` if its first row holds data."""
    index = first_of_table(sample)
    at, cells = sample[index]
    if looks_like_data(cells, [row for _, row in sample[index + 1 :]]):
        shown = ", ".join(repr(cell) for cell in cells[:4])
        raise refusal(
            grid.name, f"expected a header that names the columns, got what looks like data: {shown}", grid.unit, at
        )
    columns, warnings = column_names(cells)
    check_names(grid, at, columns)
    if len(columns) == 1:
        warnings += (f"The table has one column, and {grid.unit} {at:,} is taken for its name: {columns[0]!r}.",)
    return Head(at, columns, tuple(sample[:index]), columns, warnings)


def report_of(grid: Grid, head: Head) -> Report:
    """What is known of the table before its rows are read."""
    left_out: tuple[LeftOut, ...] = ()
    if head.before:
        shown = tuple(f"{grid.unit} {number:,}: {example_of(cells)}" for number, cells in head.before[:EXAMPLES])
        left_out = (LeftOut(BEFORE_HEADER, len(head.before), shown),)
    return Report(
        name=grid.name,
        format=grid.format,
        part=grid.part,
        encoding=grid.encoding,
        delimiter=grid.delimiter,
        unit=grid.unit,
        header_at=head.at,
        columns=head.columns,
        left_out=left_out,
        warnings=(*grid.warnings, *head.warnings),
    )


def rows_of(grid: Grid, head: Head, tally: Tally) -> Iterator[Row]:
    """The rows below the header, as many cells each as there are columns; what is no row is left out and counted."""
    width = len(head.columns)
    starts_after = head.at if head.at is not None else (head.before[-1][0] if head.before else 0)
    pending: list[Row] = []
    for number, cells in grid.rows():
        if number <= starts_after:
            continue
        first = cells[0] if cells else ""
        if (not first or (isinstance(first, str) and not first.strip())) and is_blank(cells):
            tally.leave_out(BLANK)
            continue
        if (not first or (isinstance(first, str) and first[0] in _TOTAL_BEGINS)) and is_total(cells):
            pending.append((number, cells))
            if len(pending) <= MOST_TOTALS:
                continue
            number, cells = pending.pop()
        if pending:  # rows follow, so they were no totals
            for kept_number, kept in pending:
                _refuse_total(grid, kept_number, kept)
                yield kept_number, _fitted(grid, kept_number, kept, width)
            pending.clear()
        if len(cells) == width and not _may_be_header(cells, head):
            yield number, cells
        elif _is_header_again(grid, number, cells, head):
            tally.leave_out(REPEATED_HEADER, f"{grid.unit} {number:,}")
        else:
            yield number, _fitted(grid, number, cells, width)
    for number, cells in pending:
        tally.leave_out(TOTAL, f"{grid.unit} {number:,}: {example_of(cells)}")


def _may_be_header(cells: list[Any], head: Head) -> bool:
    first = cells[0]
    return isinstance(first, str) and (first.startswith("\ufeff") or bool(head.header and head.header[0] in first))


def _is_header_again(grid: Grid, number: int, cells: list[Any], head: Head) -> bool:
    first = cells[0] if cells else ""
    if not isinstance(first, str) or not head.header:
        return False
    is_marked = first.startswith("\ufeff")
    names, _ = column_names(cells)
    if [name.casefold() for name in names] == [name.casefold() for name in head.header]:
        return is_marked or len(names) > 1
    if is_marked:
        raise refusal(
            grid.name, "a second file begins here, with other columns; give one file alone", grid.unit, number
        )
    return False


def _fitted(grid: Grid, number: int, cells: list[Any], width: int) -> list[Any]:
    """``cells`` as wide as the table: empty ones at the end may be too many, and in a workbook too few."""
    if len(cells) > width and is_blank(cells[width:]):
        return cells[:width]
    if len(cells) < width and grid.is_padded:
        return cells + [""] * (width - len(cells))
    if len(cells) != width:
        expected = "1 column" if width == 1 else f"{width} columns"
        raise refusal(grid.name, f"expected {expected}, got: {len(cells)}", grid.unit, number)
    return cells


def is_total(cells: Sequence[Any]) -> bool:
    """Whether a row sums the others up, as exports do at the end."""
    first = next((cell for cell in cells if cell not in (None, "")), None)
    if not isinstance(first, str) or first[:1].isdigit():
        return False
    if _TOTAL_OF.match(first):
        return True
    if not _TOTAL_ALONE.fullmatch(first):
        return False
    others = [kind_of(cell) for cell in cells]
    return others.count("text") == 1 and "number" in others


def _refuse_total(grid: Grid, number: int, cells: Sequence[Any]) -> None:
    if any(isinstance(cell, str) and _TOTAL_OF.match(cell) for cell in cells):
        raise refusal(grid.name, f"a total stands between the rows: {example_of(cells)!r}", grid.unit, number)


def payloads(
    grid: Grid, head: Head, convert: Callable[[Payload], Payload] | None = None
) -> Callable[[Tally], Iterator[tuple[int, Payload]]]:
    """Each row below the header as an item, numbered."""

    def numbered(tally: Tally) -> Iterator[tuple[int, Payload]]:
        for number, cells in rows_of(grid, head, tally):
            item = dict(zip(head.columns, cells, strict=True))
            try:
                yield number, item if convert is None else convert(item)
            except InvalidInput as error:
                raise refusal(grid.name, str(error), grid.unit, number) from None

    return numbered
