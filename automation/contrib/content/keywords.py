"""The reader of keywords: one per line, or a column of a table as keyword tools export it."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from automation.contrib.content import keyword_doubts
from automation.errors import InvalidInput
from automation.inputs import Check, Input, Rows, delimited, encoding, no_check, table
from automation.inputs.archives import Content
from automation.inputs.grid import ADDRESS, DATE, NUMBER, TEXT, Grid, Row, kind_of, looks_like_data, trimmed
from automation.inputs.reader import checked, refusal
from automation.inputs.report import BLANK, DUPLICATE, EXAMPLES, OTHER_PART, LeftOut, Payload, Report, Tally
from automation.inputs.table import Head, column_names

LONGEST_KEYWORD = 500
HEADER_ROWS = 40
"""How far down the header may stand."""
COLUMN = "keyword"
COLUMN_NAMES = frozenset(
    (
        *(
            "keyword",
            "keywords",
            "query",
            "queries",
            "search term",
            "search terms",
            "search query",
            "search keyword",
            "search phrase",
            "term",
        ),
        *("top queries", "top query"),
        *("suchanfrage", "suchanfragen", "suchbegriff", "suchbegriffe", "häufigste suchanfragen"),
        *("schlüsselwort", "schlüsselwörter"),
        *("mot clé", "mots clés", "mot-clé", "mots-clés", "requête", "requêtes"),
        *("requêtes les plus fréquentes", "terme de recherche"),
        *("palabra clave", "palabras clave", "consulta", "consultas"),
        *("consultas principales", "término de búsqueda"),
        *("parola chiave", "parole chiave", "query principali", "termine di ricerca"),
        *("palavra-chave", "palavras-chave", "principais consultas", "termo de pesquisa"),
        *("zoekwoord", "zoekwoorden", "zoekopdracht", "populairste zoekopdrachten", "zoekterm"),
        *("słowo kluczowe", "słowa kluczowe", "zapytanie", "zapytania", "najczęstsze zapytania"),
        *("ключевое слово", "ключевые слова", "запрос", "запросы", "фраза", "ключевая фраза"),
        *("sökord", "søkeord", "søgeord", "hakusana", "klíčové slovo", "kulcsszó", "anahtar kelime"),
        *("キーワード", "クエリ", "关键字", "关键词", "關鍵字", "키워드"),
    )
)
"""How keyword tools call the column of keywords, in their languages."""
_ZERO_WIDTH_JOINERS = "\u200c\u200d"
"""They part letters in some writings: kept in the keyword, without weight where keywords are compared."""


def clean_keyword(text: str) -> str:
    """``text`` with its spaces put right and without what cannot be seen, or :class:`InvalidInput` saying why not."""
    if not text.isascii():
        text = "".join(
            letter
            for letter in unicodedata.normalize("NFC", text)
            if letter in _ZERO_WIDTH_JOINERS or unicodedata.category(letter) != "Cf" or letter > "\U000e0000"
        )
    keyword = " ".join(text.split())
    if not keyword.strip(_ZERO_WIDTH_JOINERS):
        raise InvalidInput("the keyword is empty")
    if len(keyword) > LONGEST_KEYWORD:
        raise InvalidInput(
            f"expected a keyword of at most {LONGEST_KEYWORD} characters, got {len(keyword):,}: {keyword[:40]!r}…"
        )
    if not keyword.isprintable():
        if encoding.CONTROL.search(keyword):
            raise InvalidInput(f"the keyword holds control characters: {keyword[:40]!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in keyword):
            raise InvalidInput(f"the keyword holds half a character: {keyword[:40]!a}")
    return keyword


def likeness(keyword: str) -> str:
    """What is the same for keywords that look alike: letter case, width, spaces and joiners make no difference."""
    if keyword.isascii():
        return keyword.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", keyword).casefold())
    return " ".join(folded.replace("\u200c", "").replace("\u200d", "").split())


class Seen:
    """A set of texts by their 64-bit hashes: 8 bytes a slot, a third to two thirds of the slots used."""

    def __init__(self) -> None:
        self._count = 0
        self._slots = array("Q", bytes(8 * 1024))

    def add(self, text: str) -> bool:
        """Whether ``text`` is new."""
        value = hash(text) & 0xFFFF_FFFF_FFFF_FFFF or 1
        slots = self._slots
        mask = len(slots) - 1
        at = value & mask
        while found := slots[at]:
            if found == value:
                return False
            at = (at + 1) & mask
        slots[at] = value
        self._count += 1
        if self._count * 3 > len(slots) * 2:
            self._grow()
        return True

    def _grow(self) -> None:
        old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
        mask = len(self._slots) - 1
        for value in filter(None, old):
            at = value & mask
            while self._slots[at]:
                at = (at + 1) & mask
            self._slots[at] = value


class Keywords(Rows):
    """One keyword per line, or a table with a column of keywords: items ``{"keyword": …, other columns}``.

    Keywords that look alike are one, and the column of keywords is called ``keyword`` whatever the file calls it.
    """

    label: ClassVar[str] = "Keywords file"
    hint: ClassVar[str] = (
        "CSV, TSV or Excel (.xlsx) with a column “keyword”, an export of a keyword tool, or one keyword per line; "
        "or a gzip or zip of one."
    )
    text_label: ClassVar[str] = "or type or paste them, one per line"
    accept: ClassVar[str] = ".csv,.tsv,.tab,.txt,.xlsx,.xlsm,.gz,.zip"
    needs: ClassVar[str] = "a file or at least one keyword"
    things: ClassVar[str] = "keywords"
    expected: ClassVar[str] = "CSV, TSV, Excel (.xlsx), or one keyword per line"

    def read_json(self, content: Content, found: encoding.Encoding, line: int, check: Check) -> Input:
        raise refusal(content.name, f"it is JSON; expected {self.expected}", "line", line)

    def from_records(self, records: Iterable[Any], name: str = "items", check: Check = no_check) -> Input:
        """Read items that came as JSON: objects with a text ``keyword`` and whatever else belongs to it."""
        given = list(records)

        def numbered(tally: Tally) -> Iterator[tuple[int, Payload]]:
            return _distinct(_records(given, name, tally), name, "item", tally)

        return checked(Report(name, "items", unit="item"), numbered, check, self.things if given else "items")

    def choose_part(self, names: Sequence[str]) -> str:
        def stem(name: str) -> str:
            return name.rpartition("/")[2].partition(".")[0].replace("_", " ").strip().casefold()

        meant = [name for name in names if stem(name) in COLUMN_NAMES]
        return meant[0] if len(meant) == 1 else ""

    def grid_of(self, content: Content, found: encoding.Encoding, sample: list[str]) -> Grid:
        """The table whose header names keywords, whatever separates its cells; else lines, unless it is a table."""
        is_table_by_name = content.is_named(".csv", ".tsv", ".tab")
        directive = delimited.directive_in(sample)
        delimiter = directive or self._delimiter_by_header(sample)
        if delimiter is None:
            delimiter = delimited.delimiter_of(sample, is_tsv=content.is_named(".tsv", ".tab"))
            share, width = delimited.regularity(sample, delimiter) if delimiter else (0.0, 1)
            is_regular = share == 1.0 or (share > 0.5 and is_table_by_name)
            if width < 2 or not is_regular or (delimiter == "," and not is_table_by_name):
                return delimited.lines_of(content.file, content.name, found.name, found.warnings)
        return delimited.grid_of(
            content.file, content.name, found.name, delimiter, has_directive=bool(directive), warnings=found.warnings
        )

    @staticmethod
    def _delimiter_by_header(sample: list[str]) -> str | None:
        """What separates the cells of a header that names keywords; ``None`` if there is no such header."""
        widths = {}
        for delimiter in delimited.DELIMITERS:
            rows = delimited.parsed(sample, delimiter)
            found = (trimmed(row) for at, row in enumerate(rows[:HEADER_ROWS]) if _names_keywords(rows, at))
            widths[delimiter] = max(map(len, found), default=0)
        best = max(widths, key=lambda one: widths[one])
        if not widths[best]:
            return None
        return best if widths[best] > 1 else ""

    def read_table(self, grid: Grid, sample: Sequence[Row], check: Check, others: tuple[str, ...]) -> Input:
        head, at = keyword_head(grid, sample)
        texts = _texts(head, at, sample)
        _refuse_addresses(grid, texts)
        report = table.report_of(grid, head)
        report = replace(report, warnings=(*report.warnings, *keyword_doubts.of(grid, texts)))
        if others:
            report = replace(report, left_out=(*report.left_out, LeftOut(OTHER_PART, len(others), others[:EXAMPLES])))

        def numbered(tally: Tally) -> Iterator[tuple[int, Payload]]:
            rows = table.payloads(grid, head, _with_text)(tally)
            return _distinct(rows, grid.name, grid.unit, tally)

        return checked(report, numbered, check, self.things)


def keyword_columns(cells: Sequence[Any]) -> list[int]:
    """The indexes of the cells that name a column of keywords."""
    names, _ = column_names(cells)
    return [
        index for index, name in enumerate(names) if " ".join(name.replace("_", " ").split()).casefold() in COLUMN_NAMES
    ]


def keyword_head(grid: Grid, sample: Sequence[Row]) -> tuple[Head, int]:
    """Where the table begins, and which of its columns holds the keywords."""
    if grid.format == "lines":
        return _head_of_lines(sample), 0
    named = {index: found for index, (_, row) in enumerate(sample[:HEADER_ROWS]) if (found := keyword_columns(row))}
    # A row of one cell above wider ones may be a title that reads “Keywords”.
    for is_good_enough in (_is_wide_header, _is_header):
        for index, found in named.items():
            if is_good_enough(sample, index):
                return _head(grid, sample, index, found)
    width = max(len(trimmed(cells)) for _, cells in sample)
    if width == 1:
        return Head(None, (COLUMN,)), 0
    return _head_without_name(grid, sample)


def _names_keywords(rows: Sequence[list[Any]], at: int) -> bool:
    """Whether row ``at`` names a column of keywords, and more rows than not are as wide as a table's below it."""
    below = [len(row) > 1 for row in rows[at + 1 :]]
    return bool(keyword_columns(rows[at])) and (len(trimmed(rows[at])) == 1 or sum(below) * 2 >= len(below))


def _is_wide_header(sample: Sequence[Row], index: int) -> bool:
    rows = [row for _, row in sample]
    cells = trimmed(rows[index])
    return len(cells) > 1 and _names_keywords(rows, index) and not looks_like_data(cells, rows[index + 1 :])


def _is_header(sample: Sequence[Row], index: int) -> bool:
    return index == 0 and len(trimmed(sample[index][1])) == 1


def _head_of_lines(sample: Sequence[Row]) -> Head:
    number, cells = sample[0]
    if keyword_columns(cells):
        return Head(number, (COLUMN,), (), (str(cells[0]),))
    return Head(None, (COLUMN,))


def _head(grid: Grid, sample: Sequence[Row], index: int, found: list[int]) -> tuple[Head, int]:
    number, cells = sample[index]
    names, warnings = column_names(cells)
    at = found[0]
    if len(found) > 1:
        shown = ", ".join(repr(names[one]) for one in found)
        warnings += (f"Several columns name keywords ({shown}): {names[at]!r} is read.",)
    columns = (*names[:at], COLUMN, *names[at + 1 :])
    table.check_names(grid, number, columns)
    return Head(number, columns, tuple(sample[:index]), names, warnings), at


def _head_without_name(grid: Grid, sample: Sequence[Row]) -> tuple[Head, int]:
    """No column is named after keywords: the first one is read if the others show where the header is."""
    index = table.first_of_table(sample)
    number, cells = sample[index]
    names, warnings = column_names(cells)
    rows = [row for _, row in sample[index + 1 :]]
    known = "keyword, query, search term"
    first_kinds = [kind_of(row[0]) for row in rows[:50] if row] or [TEXT]
    for kind, what in ((ADDRESS, "addresses"), (DATE, "dates"), (NUMBER, "numbers")):
        if first_kinds.count(kind) * 2 > len(first_kinds):
            reason = f"no column is named {known}, and the first, {names[0]!r}, holds {what}"
            raise refusal(grid.name, reason, grid.unit, number)
    if looks_like_data(cells, rows):
        columns = (COLUMN, *(f"column {one}" for one in range(2, max(len(names), 2) + 1)))
        told = "The file has no header: its first column is read as keywords."
        return Head(None, columns, tuple(sample[:index]), (), (told,)), 0
    if not _is_named_by_contrast(cells, rows):
        reason = f"no column is named after keywords ({known}): name the one that holds them in a header"
        raise refusal(grid.name, reason, grid.unit, number)
    columns = (COLUMN, *names[1:])
    table.check_names(grid, number, columns)
    told = f"No column is named {known}: the first, {names[0]!r}, is read as keywords."
    return Head(number, columns, tuple(sample[:index]), names, (*warnings, told)), 0


def _is_named_by_contrast(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a column holds numbers, dates or addresses under a name in words."""
    for index in range(1, len(trimmed(list(header)))):
        below = [kind_of(row[index]) for row in rows if index < len(row)]
        if kind_of(header[index]) == TEXT and sum(kind in (NUMBER, DATE, ADDRESS) for kind in below) * 2 > len(below):
            return True
    return False


def _texts(head: Head, at: int, sample: Sequence[Row]) -> list[tuple[int, str]]:
    """The first keywords, with their places."""
    starts_after = head.at or 0
    return [(number, str(cells[at])) for number, cells in sample if number > starts_after and at < len(cells)][:50]


def _refuse_addresses(grid: Grid, texts: Sequence[tuple[int, str]]) -> None:
    found = [number for number, text in texts if kind_of(text) == ADDRESS]
    if len(found) * 2 > len(texts):
        raise refusal(grid.name, "it holds addresses where keywords are expected", grid.unit, found[0])


def _with_text(item: Payload) -> Payload:
    if not isinstance(item[COLUMN], str):
        item[COLUMN] = str(item[COLUMN])
    return item


def _records(given: Sequence[Any], name: str, tally: Tally) -> Iterator[tuple[int, Payload]]:
    for number, record in enumerate(given, start=1):
        if not isinstance(record, dict) or not isinstance(record.get(COLUMN), str):
            raise refusal(name, f"expected an object with a text 'keyword', got: {record!r:.80}", "item", number)
        if record[COLUMN].strip():
            yield number, {**record}
        else:
            tally.leave_out(BLANK)


def _distinct(rows: Iterable[tuple[int, Payload]], name: str, unit: str, tally: Tally) -> Iterator[tuple[int, Payload]]:
    """Each keyword once, cleaned: the first of those that look alike."""
    is_new: Callable[[str], bool] = Seen().add
    for number, item in rows:
        try:
            keyword = clean_keyword(item[COLUMN])
        except InvalidInput as error:
            raise refusal(name, str(error), unit, number) from None
        if is_new(likeness(keyword)):
            item[COLUMN] = keyword
            yield number, item
        else:
            tally.leave_out(DUPLICATE, f"{unit} {number:,}: {keyword}")
