"""Limits are asked while an input is read: whatever is handed over, memory and disk are bounded."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from automation.contrib.content.keywords import Keywords, Seen
from automation.errors import InvalidInput
from automation.inputs import Input, Rows, excel
from tests.support.archives import workbook, zipped

CSV = b"sku,name\nA1,Anchor\nA2,Chair\n"
Limit = Callable[..., None]


@pytest.fixture
def limit(settings: Any) -> Limit:
    def set_limits(**limits: int) -> None:
        settings.AUTOMATION = {**settings.AUTOMATION, **limits}

    return set_limits


def read(content: bytes, name: str = "items.csv") -> Input:
    return Rows().read(io.BytesIO(content), name)


def refusal(content: bytes, name: str = "items.csv") -> str:
    with pytest.raises(InvalidInput) as caught:
        read(content, name)
    return str(caught.value)


def peak_mib(read: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def refusal_and_peak_mib(content: bytes, name: str) -> tuple[str, float]:
    told: list[str] = []
    peak = peak_mib(lambda: told.append(refusal(content, name)))
    return told[0], peak


def test_more_items_than_allowed_are_not_read_to_the_end(limit: Limit) -> None:
    limit(max_input_items=1_000)
    lines = b"".join(b"%d\n" % n for n in range(5_000))
    assert refusal(b"number\n" + lines) == ("Cannot use items.csv: line 1,002: expected at most 1,000 items, got more.")


def test_a_gzip_bomb_is_stopped_at_the_limit(limit: Limit) -> None:
    limit(max_input_bytes=5_000_000)
    bomb = gzip.compress(b"a" * 300_000_000, compresslevel=9)

    told, peak = refusal_and_peak_mib(bomb, "items.csv.gz")

    assert told == "Cannot use items.csv.gz: it unpacks to more than 5,000,000 bytes."
    assert peak < 30


def test_a_zip_bomb_is_stopped_whatever_it_says_of_its_size(limit: Limit) -> None:
    limit(max_input_bytes=5_000_000)
    bomb = zipped({"items.csv": b"a" * 100_000_000})

    assert refusal(bomb, "items.zip") == "Cannot use items.zip: items.csv: it unpacks to more than 5,000,000 bytes."


def test_a_zip_of_very_many_files_is_refused_before_they_are_listed() -> None:
    many = bytearray(zipped({"items.csv": CSV}))
    end = many.rindex(b"PK\x05\x06")
    struct.pack_into("<I", many, end + 12, 1 << 30)

    assert refusal(bytes(many), "items.zip") == "Cannot use items.zip: it is a zip of too many files."


def test_too_many_columns_are_refused(limit: Limit) -> None:
    limit(max_input_columns=5)

    assert refusal(b"a,b,c,d,e,f\n1,2,3,4,5,6\n") == (
        "Cannot use items.csv: line 1: expected at most 5 columns, got: 6."
    )


def test_a_cell_without_end_is_refused() -> None:
    assert refusal(b"sku,name\nA1," + b"x" * 200_000 + b"\n") == (
        "Cannot use items.csv: line 2: a cell has more than 131,072 characters."
    )


def test_a_line_without_end_is_refused_in_bounded_memory() -> None:
    endless = b"sku\n" + b"x" * 50_000_000

    told, peak = refusal_and_peak_mib(endless, "items.csv")

    assert told == "Cannot use items.csv: line 2: it is longer than 8,388,608 characters."
    assert peak < 60


def test_a_json_value_without_end_is_refused_in_bounded_memory(limit: Limit) -> None:
    limit(max_item_bytes=100_000)
    endless = b'[{"sku": "' + b"x" * 50_000_000

    told, peak = refusal_and_peak_mib(endless, "items.json")

    assert told.startswith("Cannot use items.json: line 1: it is larger than 100,000")
    assert peak < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["items.json", "items.jsonl", "items.csv"])
def test_memory_does_not_grow_with_the_number_of_items(name: str) -> None:
    def content(count: int) -> bytes:
        items = [{"sku": f"A{n}", "name": "Anchor"} for n in range(count)]
        if name == "items.json":
            return json.dumps(items).encode()
        if name == "items.jsonl":
            return b"".join(json.dumps(item).encode() + b"\n" for item in items)
        return b"sku,name\n" + b"".join(b"%s,Anchor\n" % item["sku"].encode() for item in items)

    def peak(count: int) -> float:
        given = content(count)
        return peak_mib(lambda: sum(1 for _ in read(given, name)))

    assert peak(40_000) < peak(10_000) + 4


def test_a_workbook_that_names_a_far_row_is_refused_in_time() -> None:
    parts = workbook([["sku"], ["A1"], ["A2"]])
    sheet = parts["xl/worksheets/sheet1.xml"]
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b'r="3"', b'r="99999999999"').replace(b'"A3"', b'"A99999999999"')

    assert "has more than 1,048,576 rows" in refusal(zipped(parts), "items.xlsx")


def test_a_workbook_that_claims_to_be_huge_is_read_by_what_it_holds() -> None:
    parts = workbook([["sku", "name"], ["A1", "Anchor"]])
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert b'ref="A1:B2"' in sheet
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b'ref="A1:B2"', b'ref="A1:XFD1048576"')

    assert list(read(zipped(parts), "items.xlsx")) == [{"sku": "A1", "name": "Anchor"}]


@pytest.mark.slow
def test_a_workbook_with_a_row_that_fills_the_memory_is_refused() -> None:
    parts = workbook([["sku"], ["A1"]])
    sheet = parts["xl/worksheets/sheet1.xml"]
    row = b'<row r="3">' + b"<c><v>1</v></c>" * 800_000 + b"</row></sheetData>"
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"</sheetData>", row)
    bomb = zipped(parts)

    told, peak = refusal_and_peak_mib(bomb, "items.xlsx")

    assert "row 3 of a sheet is larger than 8,388,608 bytes" in told
    assert peak < 60


def test_a_workbook_with_more_texts_than_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "MOST_STRINGS", 3)
    parts = workbook([["sku"], ["A1"]])
    parts["xl/sharedStrings.xml"] = b"<sst>" + b"<si><t>x</t></si>" * 4 + b"</sst>"

    assert "more than 3 texts" in refusal(zipped(parts), "items.xlsx")


def test_entities_of_a_workbook_are_not_unfolded() -> None:
    parts = workbook([["sku"], ["A1"]])
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    parts["xl/worksheets/sheet1.xml"] = bomb + parts["xl/worksheets/sheet1.xml"].replace(b">A1<", b">&b;<")

    assert "its workbook cannot be read" in refusal(zipped(parts), "items.xlsx")


def test_texts_are_told_apart_by_their_hashes_in_few_bytes() -> None:
    def fill() -> int:
        seen = Seen()
        return sum(seen.add(f"keyword number {n % 60_000}") for n in range(100_000))

    assert fill() == 60_000
    assert peak_mib(fill) < 4


def test_keywords_are_limited_while_they_are_read(limit: Limit) -> None:
    limit(max_input_items=1_000)
    lines = b"".join(b"keyword %d\n" % n for n in range(200_000))

    def read_them() -> None:
        with pytest.raises(InvalidInput, match="at most 1,000 items"):
            Keywords().read(io.BytesIO(lines), "words.txt")

    assert peak_mib(read_them) < 10


def test_rows_that_all_read_like_totals_do_not_fill_the_memory() -> None:
    named = b"sku,n\n" + b"Total,1\n" * 50_000
    summed = b"sku,n\n" + b"Total: x,1\n" * 50_000

    given = read(named)

    assert given.count + given.report.number_left_out("total") == 50_000
    assert given.count >= 50_000 - 100
    assert "a total stands between the rows" in refusal(summed)
