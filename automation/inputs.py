"""Reading a run's input: a CSV file with a header, one keyword a line, or records that came as JSON.

Nothing is created from an input that is wrong anywhere: it is read once to check and count, and again for its items.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from automation.encodings import CONTROL, detect_encoding
from automation.errors import InvalidInput
from automation.pipeline import Payload

LONGEST_KEYWORD = 500
LONGEST_CELL = 5_000
KEYWORD_COLUMNS = ("keyword", "keywords", "query", "queries", "search term", "search query", "term")
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Input:
    """A checked input. ``items()`` may be called any number of times and yields the same payloads in the same order."""

    items: Callable[[], Iterator[Payload]]
    count: int
    duplicates: int = 0
    """Repeated keywords, left out; letter case and spacing make no difference."""
    blank: int = 0
    """Empty lines, left out."""
    encoding: str = "utf-8"


@dataclass
class _Tally:
    count: int = 0
    duplicates: int = 0
    blank: int = 0
    seen: set[str] = field(default_factory=set)


def clean_keyword(text: str) -> str:
    """``text`` with its spaces put right, or :class:`InvalidInput` saying why it is no keyword."""
    keyword = " ".join(text.split())
    if not keyword:
        raise InvalidInput("the keyword is empty")
    if len(keyword) > LONGEST_KEYWORD:
        raise InvalidInput(
            f"expected a keyword of at most {LONGEST_KEYWORD} characters, got {len(keyword):,}: {keyword[:40]!r}…"
        )
    if not keyword.isprintable():
        if CONTROL.search(keyword):
            raise InvalidInput(f"the keyword holds control characters: {keyword[:40]!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in keyword):
            raise InvalidInput(f"the keyword holds half a character: {keyword[:40]!a}")
    return keyword


def read_keywords(file: BinaryIO, name: str) -> Input:
    """The keywords of ``file``, which must be seekable and stay open while items are read; ``name`` is for messages.

    Raises :class:`InvalidInput` naming file, line and reason. Further columns of a CSV are kept in the payload.
    """
    encoding = detect_encoding(file, name)

    def rows() -> Iterator[tuple[int, Payload | None]]:
        return _rows(file, name, encoding)

    return _checked(rows, name, "line", encoding)


def from_records(records: Iterable[Any], name: str = "items") -> Input:
    """The same for items that came as JSON: objects with a text ``keyword`` and whatever else belongs to it."""
    given = list(records)

    def rows() -> Iterator[tuple[int, Payload | None]]:
        for number, record in enumerate(given, start=1):
            if not isinstance(record, dict) or not isinstance(record.get("keyword"), str):
                raise InvalidInput(
                    _at(name, "item", number, f"expected an object with a text 'keyword', got: {record!r:.80}")
                )
            yield number, {**record} if record["keyword"].strip() else None

    return _checked(rows, name, "item", "utf-8")


def _checked(rows: Callable[[], Iterator[tuple[int, Payload | None]]], name: str, unit: str, encoding: str) -> Input:
    tally = _Tally()
    for _ in _items(rows(), name, unit, tally):
        pass
    if not tally.count:
        raise InvalidInput(f"Cannot use {name}: it has no keywords.")
    tally.seen.clear()
    return Input(
        items=lambda: _items(rows(), name, unit, _Tally()),
        count=tally.count,
        duplicates=tally.duplicates,
        blank=tally.blank,
        encoding=encoding,
    )


def _items(rows: Iterable[tuple[int, Payload | None]], name: str, unit: str, tally: _Tally) -> Iterator[Payload]:
    seen = tally.seen
    for number, payload in rows:
        if payload is None:
            tally.blank += 1
            continue
        try:
            keyword = clean_keyword(payload["keyword"])
        except InvalidInput as error:
            raise InvalidInput(_at(name, unit, number, str(error))) from None
        key = keyword.casefold()
        if key in seen:
            tally.duplicates += 1
            continue
        seen.add(key)
        tally.count += 1
        payload["keyword"] = keyword
        yield payload


def _rows(file: BinaryIO, name: str, encoding: str) -> Iterator[tuple[int, Payload | None]]:
    """Line number and payload of each row; ``None`` for a blank one."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        first = text.readline(LONGEST_CELL * 10)
        table = _table_of(first, name)
        if table is None:
            yield 1, _line_payload(first)
            for number, line in enumerate(text, start=2):
                yield number, _line_payload(line)
        else:
            yield from _table_rows(text, name, *table)
    finally:
        with suppress(ValueError):  # the caller may have closed the file before it let go of the items
            text.detach()


def _line_payload(line: str) -> Payload | None:
    keyword = line.strip()
    if len(keyword) > 1 and keyword[0] == keyword[-1] == '"':
        keyword = keyword[1:-1].replace('""', '"').strip()
    return {"keyword": keyword} if keyword else None


def _table_of(first: str, name: str) -> tuple[list[str], int, str] | None:
    """Column names, the keyword's column and the delimiter if ``first`` is a header; ``None`` for plain lines."""
    is_table_by_name = name.lower().endswith((".csv", ".tsv"))
    delimiter = max(DELIMITERS, key=first.count)
    columns = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    known = [column.lower().replace("_", " ") in KEYWORD_COLUMNS for column in columns]
    if not any(known) and not (is_table_by_name and len(columns) > 1):
        return None
    at = known.index(True) if any(known) else 0
    columns = [column or f"column {number}" for number, column in enumerate(columns, start=1)]
    columns[at] = "keyword"
    for column in columns:
        if columns.count(column) > 1:
            raise InvalidInput(_at(name, "line", 1, f"two columns are named {column!r}"))
    return columns, at, delimiter


def _table_rows(
    text: io.TextIOWrapper, name: str, columns: list[str], at: int, delimiter: str
) -> Iterator[tuple[int, Payload | None]]:
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    starts_at = 2
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InvalidInput(_at(name, "line", starts_at, _csv_reason(error))) from None
        if row is None:
            return
        if not any(row) or (len(row) == 1 and not row[0].strip()):
            yield starts_at, None
        elif len(row) != len(columns):
            raise InvalidInput(_at(name, "line", starts_at, f"expected {_columns(len(columns))}, got: {len(row)}"))
        elif not row[at].strip():
            raise InvalidInput(_at(name, "line", starts_at, "the keyword is empty"))
        else:
            if max(map(len, row)) > LONGEST_CELL:
                raise InvalidInput(_at(name, "line", starts_at, f"a column has more than {LONGEST_CELL:,} characters"))
            yield starts_at, dict(zip(columns, row, strict=True))
        starts_at = reader.line_num + 2


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _csv_reason(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text or "field larger than" in text:
        return "a quote that opens here is never closed"
    return f"it is no valid CSV: {text}"


def _at(name: str, unit: str, number: int, reason: str) -> str:
    return f"Cannot use {name}: {unit} {number:,}: {reason}."
