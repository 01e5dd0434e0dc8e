"""Takes the one file that is meant out of gzip and zip, in bounded memory and on bounded disk."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from automation import conf
from automation.errors import InvalidInput
from automation.inputs import signatures
from automation.inputs.reader import refusal
from automation.inputs.spool import copy

START_BYTES = 4_096
MOST_DIRECTORY_BYTES = 4 << 20
"""What the list of a zip's members may take: it is read into memory."""
MOST_NAMED = 10
_DOCUMENTS = (
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb)"),
    ("word/document.xml", "a Word document"),
    ("ppt/presentation.xml", "a PowerPoint presentation"),
    ("Index/Document.iwa", "an Apple Numbers or Pages document"),
    ("META-INF/MANIFEST.MF", "a Java archive"),
)
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OSError,
    ValueError,
)

ChoosePart = Callable[[Sequence[str]], str]
"""Returns the one of several names that is meant; empty if that is not clear."""


@dataclass(frozen=True)
class Content:
    """What is to be read: ``file``, where it was found, and whether it is a workbook."""

    file: BinaryIO
    name: str
    """For messages: the file that was given, and the member of it."""
    part: str = ""
    other_parts: tuple[str, ...] = ()
    is_workbook: bool = False

    def is_named(self, *endings: str) -> bool:
        """Whether the name of what is read ends so, whatever it is packed in."""
        return self.name.lower().removesuffix(".gz").endswith(endings)


def content_of(file: BinaryIO, name: str, choose: ChoosePart) -> Content:
    """``file`` itself, or what is packed in it. Raises :class:`InvalidInput` for what nobody can read."""
    return _content_of(file, name, choose, depth=0)


def _content_of(file: BinaryIO, name: str, choose: ChoosePart, depth: int) -> Content:
    file.seek(0)
    start = file.read(START_BYTES)
    if not start:
        raise refusal(name, "it is empty")
    if start.startswith(signatures.OLE):
        raise refusal(name, _ole_reason(start))
    if start.startswith(signatures.GZIP):
        if depth:
            raise refusal(name, "it is packed twice; expected at most one gzip or zip around it")
        return _content_of(_gunzipped(file, name), name, choose, depth + 1)
    if start.startswith(signatures.ZIP):
        return _of_zip(file, name, choose, depth)
    if kind := signatures.kind_of_bytes(start):
        raise refusal(name, f"it is {kind}; {_EXPECTED}")
    return Content(file, name)


_EXPECTED = "expected CSV, Excel (.xlsx), or text, or a gzip or zip of one of them"


def _ole_reason(start: bytes) -> str:
    if "EncryptedPackage".encode("utf-16-le") in start:
        return "it is an Excel file with a password; save it without one"
    return "it is an old Excel (.xls) or Office file; save it as .xlsx or CSV"


def _most() -> int:
    return conf.settings().max_input_bytes


def _too_large(name: str) -> InvalidInput:
    return refusal(name, f"it unpacks to more than {_most():,} bytes")


def _gunzipped(file: BinaryIO, name: str) -> BinaryIO:
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            return copy(packed.read, _most(), lambda: _too_large(name))
    except _DAMAGED as error:
        raise refusal(name, f"its gzip cannot be unpacked: {str(error).lower() or 'it is cut off'}") from None


def _of_zip(file: BinaryIO, name: str, choose: ChoosePart, depth: int) -> Content:
    _check_directory(file, name)
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGED as error:
        raise refusal(name, f"its zip cannot be unpacked: {str(error).lower()}") from None
    with archive:
        names = set(archive.namelist())
        if "xl/workbook.xml" in names:
            return Content(file, name, is_workbook=True)
        for member, kind in _DOCUMENTS:
            if member in names:
                raise refusal(name, f"it is {kind}; {_EXPECTED}")
        if "mimetype" in names and "content.xml" in names:
            raise refusal(name, "it is an OpenDocument file; save it as .xlsx or CSV")
        if depth:
            raise refusal(name, "it is packed twice; expected at most one gzip or zip around it")
        return _of_member(archive, name, choose)


def _of_member(archive: zipfile.ZipFile, name: str, choose: ChoosePart) -> Content:
    members = {info.filename: info for info in archive.infolist() if _is_meant(info)}
    if not members:
        raise refusal(name, "it is a zip with no file in it")
    part = next(iter(members)) if len(members) == 1 else choose(list(members))
    if not part:
        raise refusal(name, f"it holds {_named(members)}; expected one: give that alone")
    info = members[part]
    check_packing(info, name)
    inner = f"{name}: {part}"
    try:
        with archive.open(info) as packed:
            file = copy(packed.read, _most(), lambda: _too_large(inner))
    except _DAMAGED as error:
        raise refusal(inner, f"it cannot be unpacked: {str(error).lower()}") from None
    content = _content_of(file, inner, choose, depth=1)
    others = tuple(other for other in members if other != part)
    return Content(content.file, inner, part, others, content.is_workbook)


def check_packing(info: zipfile.ZipInfo, name: str) -> None:
    """Refuse a member that is encrypted, or packed in a way that may take any amount of memory to unpack."""
    if info.flag_bits & 0x1:
        raise refusal(name, f"{info.filename} in it is encrypted; pack it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refusal(name, f"{info.filename} in it is packed by an uncommon method; expected deflate")


def _is_meant(info: zipfile.ZipInfo) -> bool:
    """Neither a folder nor what systems put beside files."""
    path, _, base = info.filename.rpartition("/")
    return not (not base or "__MACOSX" in path or base.startswith(".") or base in ("Thumbs.db", "desktop.ini"))


def _named(names: Sequence[str] | dict[str, zipfile.ZipInfo]) -> str:
    known = list(names)
    more = f" and {len(known) - MOST_NAMED:,} more" if len(known) > MOST_NAMED else ""
    return f"{len(known):,} files ({', '.join(known[:MOST_NAMED])}{more})"


def _check_directory(file: BinaryIO, name: str) -> None:
    """Refuse a zip whose list of members is larger than anybody's files need: zipfile reads it whole."""
    size = file.seek(0, os.SEEK_END)
    tail_at = max(0, size - 66_000)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise refusal(name, "it is a zip that is cut off")
    (directory,) = struct.unpack_from("<I", tail, at + 12)
    locator = tail.rfind(b"PK\x06\x07", 0, at)
    if locator >= 0:
        file.seek(min(size, struct.unpack_from("<Q", tail, locator + 8)[0]))
        record = file.read(56)
        if len(record) == 56 and record.startswith(b"PK\x06\x06"):
            (directory,) = struct.unpack_from("<Q", record, 40)
    if directory > MOST_DIRECTORY_BYTES:
        raise refusal(name, "it is a zip of too many files")
