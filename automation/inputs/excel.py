"""Excel workbooks (.xlsx): one sheet, copied row by row into a temporary file."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

import openpyxl
import orjson

from automation import conf
from automation.errors import InvalidInput
from automation.inputs.archives import ChoosePart, check_packing
from automation.inputs.grid import Grid, Row, is_blank, trimmed
from automation.inputs.reader import refusal
from automation.inputs.spool import CHUNK_BYTES, spool

# It warns of what a workbook has beside its cells (styles, validations), which nobody asked for here.
warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")

MOST_ROWS = 1_048_576
"""Excel's own limit."""
MOST_ROW_BYTES = 8 << 20
MOST_STRING_BYTES = 128 << 20
MOST_STRINGS = 4_000_000
MOST_OTHER_BYTES = 32 << 20
_OVERLAP = 64 << 10
_ROW = re.compile(rb"<(?:\w+:)?row[\s>/]")
_STRING = re.compile(rb"<(?:\w+:)?si[\s>/]")
_FORMULA = re.compile(
    rb"<(?:\w+:)?c\s([^<>]*)>\s*<(?:\w+:)?f(?:\s[^<>]*)?(?:/>|>[^<]*</(?:\w+:)?f>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_ERRORS = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"})


def grid_of(file: BinaryIO, name: str, choose: ChoosePart) -> tuple[Grid, tuple[str, ...]]:
    """The rows of the one sheet that is meant, and the names of the others."""
    try:
        uncomputed = _check_parts(file, name)
        file.seek(0)
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        sheet, others = _chosen(workbook, name, choose)
        if cell := uncomputed.get(sheet._worksheet_path, ""):
            raise refusal(
                name,
                f"sheet {sheet.title!r}, cell {cell}: it holds a formula that was never computed; "
                "open the file in Excel or LibreOffice and save it",
            )
        return _copied(sheet, name), others
    except InvalidInput:
        raise
    except Exception as error:  # whatever is wrong in the XML of a workbook comes as any exception
        raise refusal(name, f"its workbook cannot be read ({type(error).__name__}: {error})"[:300]) from None


def _check_parts(file: BinaryIO, name: str) -> dict[str, str]:
    """Refuse what would not fit into memory; and, by sheet, its first cell with a formula that has no value."""
    uncomputed = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            check_packing(info, name)
            if info.filename.startswith("xl/worksheets/") and info.filename.endswith(".xml"):
                uncomputed[info.filename] = _check_sheet(archive, info, name)
            elif info.filename.endswith("haredStrings.xml"):
                _check_strings(archive, info, name)
            elif info.filename.endswith((".xml", ".rels")) and info.file_size > MOST_OTHER_BYTES:
                raise refusal(name, f"its part {info.filename} is larger than {MOST_OTHER_BYTES:,} bytes")
    return {path: cell for path, cell in uncomputed.items() if cell}


def _check_sheet(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> str:
    most = conf.settings().max_input_bytes
    if info.file_size > most:
        raise refusal(name, f"it unpacks to more than {most:,} bytes")
    uncomputed = ""
    rows = since_row = 0
    rest = b""
    with archive.open(info) as part:
        while chunk := part.read(CHUNK_BYTES):
            found = [match.start() for match in _ROW.finditer(rest[-16:] + chunk)]
            rows += len(found)
            since_row = len(chunk) - found[-1] if found else since_row + len(chunk)
            if rows > MOST_ROWS * 2:
                raise refusal(name, f"a sheet has more than {MOST_ROWS:,} rows")
            if rows and since_row > MOST_ROW_BYTES:
                raise refusal(name, f"row {rows:,} of a sheet is larger than {MOST_ROW_BYTES:,} bytes")
            buffer = rest + chunk
            if not uncomputed:
                for match in _FORMULA.finditer(buffer):
                    if b't="str"' not in match.group(1):
                        uncomputed = _coordinate(match.group(1))
                        break
            rest = buffer[-_OVERLAP:]
    return uncomputed


def _coordinate(attributes: bytes) -> str:
    found = re.search(rb'r="([A-Z]+\d+)"', attributes)
    return found.group(1).decode() if found else "of unknown place"


def _check_strings(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> None:
    if info.file_size > MOST_STRING_BYTES:
        raise refusal(name, f"its texts are larger than {MOST_STRING_BYTES:,} bytes; save it as CSV")
    count = 0
    with archive.open(info) as part:
        while chunk := part.read(CHUNK_BYTES):
            count += len(_STRING.findall(chunk))
            if count > MOST_STRINGS:
                raise refusal(name, f"it has more than {MOST_STRINGS:,} texts; save it as CSV")


def _chosen(workbook: Any, name: str, choose: ChoosePart) -> tuple[Any, tuple[str, ...]]:
    filled = []
    others = []
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # what a file says of its own size may be wrong
        if sheet.sheet_state == "visible" and any(True for _ in _rows(sheet, name)):
            filled.append(sheet)
        else:
            others.append(sheet.title if sheet.sheet_state == "visible" else f"{sheet.title} (hidden)")
    if not filled:
        raise refusal(name, "it has no rows in any visible sheet")
    titles = [sheet.title for sheet in filled]
    title = titles[0] if len(titles) == 1 else choose(titles)
    if not title:
        shown = ", ".join(repr(one) for one in titles[:10])
        raise refusal(name, f"it has {len(titles)} sheets with rows ({shown}); expected one: leave the others out")
    others += [one for one in titles if one != title]
    return filled[titles.index(title)], tuple(others)


def _rows(sheet: Any, name: str) -> Iterator[Row]:
    most_columns = conf.settings().max_input_columns
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if number > MOST_ROWS:
            raise refusal(name, f"sheet {sheet.title!r} has more than {MOST_ROWS:,} rows")
        row = trimmed(list(cells))
        if len(row) > most_columns:
            raise refusal(name, f"expected at most {most_columns:,} columns, got: {len(row):,}", "row", number)
        if row and not is_blank(row):
            yield number, [_plain(cell) for cell in row]


def _copied(sheet: Any, name: str) -> Grid:
    target = spool()
    told: list[str] = []
    for number, cells in _rows(sheet, name):
        target.write(orjson.dumps([number, cells]) + b"\n")
        if not told and (wrong := next((cell for cell in cells if isinstance(cell, str) and cell in _ERRORS), None)):
            told.append(f"Row {number:,} holds an error of Excel's: {wrong}. It is read as this text.")

    def rows() -> Iterator[Row]:
        target.seek(0)
        for line in target:
            number, cells = orjson.loads(line)
            yield number, cells

    return Grid(
        f"{name}: {sheet.title}", "Excel", rows, unit="row", is_padded=True, part=sheet.title, warnings=tuple(told)
    )


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: texts, numbers, true and false; dates and times in ISO 8601; nothing as an empty text."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 1e15 else cell
    if isinstance(cell, datetime):
        return (cell.date() if cell.time() == time() else cell.replace(microsecond=0)).isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell)
    return cell if isinstance(cell, str | int | bool) else str(cell)
