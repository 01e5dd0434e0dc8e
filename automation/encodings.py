"""Finds out how a text file is encoded, and refuses what is no text."""

from __future__ import annotations

import codecs
import re
from typing import BinaryIO

from automation.errors import InvalidInput

CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 4_096
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NOT_TEXT = ((b"PK\x03\x04", "a ZIP or Excel file"), (b"%PDF", "a PDF file"), (b"\x1f\x8b", "a gzip file"))


def detect_encoding(file: BinaryIO, name: str) -> str:
    """By byte order mark, else UTF-16 if every other byte is zero, else UTF-8 if valid, else cp1252 or latin-1."""
    file.seek(0)
    sample = file.read(SAMPLE_BYTES)
    if not sample:
        raise InvalidInput(f"Cannot use {name}: it is empty.")
    for start, kind in NOT_TEXT:
        if sample.startswith(start):
            raise InvalidInput(f"Cannot use {name}: it is {kind}; save it as CSV or as one keyword a line.")
    candidates = [encoding for mark, encoding in MARKS if sample.startswith(mark)][:1]
    if not candidates:
        candidates = [_unmarked_utf16(sample)] if _unmarked_utf16(sample) else ["utf-8", "cp1252", "latin-1"]
    for encoding in candidates:
        if _decodes(file, name, encoding):
            return encoding
    raise InvalidInput(f"Cannot use {name}: it is no valid {candidates[0].upper()} text.")


def _unmarked_utf16(sample: bytes) -> str:
    pairs = len(sample) // 2
    if pairs and sample[1::2].count(0) > 0.6 * pairs and sample[0::2].count(0) == 0:
        return "utf-16-le"
    if pairs and sample[0::2].count(0) > 0.6 * pairs and sample[1::2].count(0) == 0:
        return "utf-16-be"
    return ""


def _decodes(file: BinaryIO, name: str, encoding: str) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    while True:
        chunk = file.read(CHUNK_BYTES)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError:
            return False
        if found := CONTROL.search(text):
            line += text.count("\n", 0, found.start())
            kind = "NUL bytes" if found.group() == "\0" else f"the control character {found.group()!a}"
            raise InvalidInput(f"Cannot use {name}: line {line:,}: it holds {kind}; expected a text file.")
        line += text.count("\n")
        if not chunk:
            return True
