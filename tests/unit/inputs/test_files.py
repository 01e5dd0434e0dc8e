"""Every file of ``tests/data/inputs`` is read as meant, or refused with place and reason: its README says which."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from automation.contrib.content.keywords import Keywords
from automation.errors import InvalidInput
from automation.inputs import Input, Reader, Rows

FOLDER = Path(__file__).parents[2] / "data" / "inputs"
READERS: dict[str, Reader] = {"Keywords": Keywords(), "Rows": Rows()}


class Right(NamedTuple):
    """One row of the table."""

    file: str
    what: str
    keywords: str
    rows: str
    left_out: str
    warning: str


def table() -> list[Right]:
    lines = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| ")]
    return [Right(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[1:]]


TABLE = table()


def read(file: str, reader: str) -> tuple[Input | None, str]:
    """The input, or the sentence that refuses it."""
    with (FOLDER / file).open("rb") as opened:
        try:
            given = READERS[reader].read(opened, file)
        except InvalidInput as refusal:
            return None, str(refusal)
        assert len(list(given)) == len(list(given)) == given.count
        return given, ""


def test_the_table_has_every_file() -> None:
    assert sorted(right.file for right in TABLE) == sorted(
        path.name for path in FOLDER.iterdir() if path.name != "README.md"
    )


@pytest.mark.parametrize("right", TABLE, ids=[right.file for right in TABLE])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_is_read_as_meant_or_refused(right: Right, reader: str) -> None:
    expected = right.keywords if reader == "Keywords" else right.rows

    given, refusal = read(right.file, reader)

    if not expected.isdigit():
        assert refusal.startswith(f"Cannot use {right.file}: ")
        assert expected in refusal
        return
    assert given is not None, refusal
    assert given.count == int(expected)
    left_out = {kind: int(count) for kind, count in (one.split() for one in right.left_out.split(",") if one)}
    if reader == "Rows":
        left_out.pop("duplicate", None)
    assert {one.kind: one.count for one in given.report.left_out} == left_out
    assert right.warning in " ".join(given.report.warnings)


EXPECTED_FIRST = {
    "01_planner_utf16le_tsv.csv": "trail running shoes",
    "05_search_console_export.zip": "trail running shoes",
    "50_planner_utf16be.csv": "Wanderschuhe Damen",
    "54_cp1252_decimal_commas.csv": "Wanderschuhe für Damen",
    "55_cp1250_polish.csv": "buty trekkingowe męskie",
    "56_cp1251_russian.csv": "кроссовки для бега",
    "57_koi8_russian.txt": "кроссовки для бега",
    "58_shift_jis.csv": "ランニングシューズ",
    "70_sep_semicolon.csv": "tent",
    "72_tabs_in_csv.csv": "tent, for two",
    "81_ahrefs_utf16.csv": "tent for two",
    "99_lines_quoted.txt": "trail shoes",
    "104_lookalikes_more.txt": "waterproof boots",
    "171_titles.xlsx": "tent",
    "180_numbers_as_keywords.xlsx": "2024",
}


@pytest.mark.parametrize("file", EXPECTED_FIRST)
def test_the_first_keyword_is_the_one_that_was_meant(file: str) -> None:
    given, refusal = read(file, "Keywords")

    assert given is not None, refusal
    assert given.report.first_items[0]["keyword"] == EXPECTED_FIRST[file]


def test_rows_keep_names_and_cells_as_they_are() -> None:
    given, _ = read("30_trailing_delimiters.csv", "Rows")

    assert given is not None
    assert given.report.first_items == (
        {"Keyword": "tent", "Volume": "1", "CPC": "0,5"},
        {"Keyword": "stove", "Volume": "2", "CPC": "0,6"},
        {"Keyword": "dry bag", "Volume": "3", "CPC": "0,7"},
    )


def test_a_workbook_keeps_numbers_dates_and_texts() -> None:
    given, _ = read("172_dates_and_numbers.xlsx", "Rows")

    assert given is not None
    assert given.report.first_items == (
        {"sku": "00123", "price": 12.5, "sold": "2026-11-01", "is_new": True, "note": ""},
        {"sku": "A2", "price": 10, "sold": "2026-11-02T13:30:00", "is_new": False, "note": "x"},
    )


def test_what_stands_above_and_below_a_table_is_shown_with_its_lines() -> None:
    given, _ = read("75_search_terms_with_totals.csv", "Keywords")

    assert given is not None
    assert given.report.header_at == 3
    assert list(given.report.sentences()) == [
        "Left out: 2 rows before the header: line 1: Search terms report; "
        "line 2: November 1, 2026 - November 28, 2026.",
        "Left out: 2 totals after the last row: line 7: Total: Search terms, --, 1,300, 9,870, 40.10; "
        "line 8: Total: Account, --, 5,300, 99,870, 140.10.",
    ]


def test_a_list_with_a_line_that_reads_like_a_header_is_a_list() -> None:
    lines = b"tent\nstove\nkeyword, query\ndry bag\n"

    given = Keywords().read(io.BytesIO(lines), "words.txt")

    assert [item["keyword"] for item in given] == ["tent", "stove", "keyword, query", "dry bag"]


def test_a_broken_item_far_from_the_end_is_named_at_once() -> None:
    broken = b'[{"sku": "A1"},\n{"sku": "A2",, "n": 1},\n' + b'{"sku": "A3"},\n' * 100_000 + b"{}]"

    with pytest.raises(InvalidInput, match=r"^Cannot use items.json: line 2: it is not valid JSON: expecting property"):
        Rows().read(io.BytesIO(broken), "items.json")


def test_items_that_lie_over_the_ends_of_chunks_are_read_whole() -> None:
    items = [{"n": n, "text": "x" * (n % 977), "price": n / 8, "is_new": n % 2 == 0} for n in range(3_000)]

    given = Rows().read(io.BytesIO(json.dumps(items, indent=1).encode()), "items.json")

    assert list(given) == items
