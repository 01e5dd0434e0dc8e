"""The reader of tables and objects: every row becomes one item, with the names that the file gives its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, ClassVar

from automation.inputs import archives, delimited, encoding, json_text, signatures, table
from automation.inputs.archives import Content
from automation.inputs.grid import Grid, Row
from automation.inputs.reader import Check, Input, Reader, checked, no_check, refusal
from automation.inputs.report import EXAMPLES, OTHER_PART, LeftOut, Report


class Rows(Reader):
    """CSV, TSV, JSON, JSON lines or Excel (.xlsx), alone or in gzip or zip.

    The header's names are the keys of the items; nothing is renamed, cells stay as they are, and repeated rows are
    items, too. Titles above the header, blank rows and totals below the table are no rows: they are left out, and the
    report says so.
    """

    hint: ClassVar[str] = "CSV, TSV or Excel (.xlsx) with a header, JSON or JSON lines; or a gzip or zip of one."
    text_label: ClassVar[str] = "or paste rows, the first of them a header"
    accept: ClassVar[str] = ".csv,.tsv,.tab,.txt,.json,.jsonl,.ndjson,.xlsx,.xlsm,.gz,.zip"
    needs: ClassVar[str] = "a file or at least one row"

    def read(self, file: BinaryIO, name: str, check: Check = no_check) -> Input:
        content = archives.content_of(file, name, self.choose_part)
        if content.is_workbook:
            from automation.inputs import excel  # here: its library takes long to import, and workers read no input

            grid, others = excel.grid_of(content.file, content.name, self.choose_part)
            return self._read_grid(grid, content, (*others, *content.other_parts), check)
        found = encoding.detect(content.file, content.name)
        sample = delimited.sample_of(content.file, found.name)
        start = "".join(sample)
        if not start.strip("\ufeff \t\r\n"):
            raise refusal(content.name, f"it has no {self.things}")
        if kind := signatures.kind_of_text(start):
            raise refusal(content.name, f"it is {kind}; expected {self.expected}", "line", _first_line(sample))
        if signatures.is_json(start):
            return self.read_json(content, found, _first_line(sample), check)
        return self._read_grid(self.grid_of(content, found, sample), content, content.other_parts, check)

    expected: ClassVar[str] = "CSV, TSV, JSON or Excel (.xlsx)"

    def read_json(self, content: Content, found: encoding.Encoding, line: int, check: Check) -> Input:
        """Read a file that begins as JSON, in ``line``."""
        report, numbered = json_text.source_of(content, found)
        return checked(_with_others(report, content.other_parts), numbered, check, self.things)

    def grid_of(self, content: Content, found: encoding.Encoding, sample: list[str]) -> Grid:
        """The rows of a text file."""
        return delimited.grid_of(
            content.file,
            content.name,
            found.name,
            delimited.delimiter_of(sample, is_tsv=content.is_named(".tsv", ".tab")),
            has_directive=bool(delimited.directive_in(sample)),
            warnings=found.warnings,
        )

    def read_table(self, grid: Grid, sample: Sequence[Row], check: Check, others: tuple[str, ...]) -> Input:
        """Read what has rows and cells."""
        head = table.head_of(grid, sample)
        report = _with_others(table.report_of(grid, head), others)
        return checked(report, table.payloads(grid, head), check, self.things)

    def choose_part(self, names: Sequence[str]) -> str:
        """The one of several files in a zip, or sheets of a workbook, that is meant; empty if that is not clear."""
        return ""

    def _read_grid(self, grid: Grid, content: Content, others: tuple[str, ...], check: Check) -> Input:
        grid = grid if grid.part else replace(grid, part=content.part)
        sample = grid.sample()
        if not sample:
            raise refusal(grid.name, f"it has no {self.things}")
        return self.read_table(grid, sample, check, others)


def _first_line(sample: Sequence[str]) -> int:
    return next(number for number, line in enumerate(sample, start=1) if line.strip("\ufeff \t\r\n"))


def _with_others(report: Report, others: tuple[str, ...]) -> Report:
    if not others:
        return report
    return replace(report, left_out=(*report.left_out, LeftOut(OTHER_PART, len(others), others[:EXAMPLES])))
