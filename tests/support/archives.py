"""Archives and workbooks made by hand."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import openpyxl


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def workbook(rows: list[list[Any]]) -> dict[str, bytes]:
    """The parts of a workbook of one sheet."""
    made = openpyxl.Workbook()
    assert made.active is not None
    for row in rows:
        made.active.append(row)
    file = io.BytesIO()
    made.save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
