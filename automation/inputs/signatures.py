"""Files that are no table and no JSON, known by how they begin."""

from __future__ import annotations

import re

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_SIGNATURES = (
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"II*\0", "an image (TIFF)"),
    (b"MM\0*", "an image (TIFF)"),
    (b"8BPS", "an image (Photoshop)"),
    (b"RIFF", "a media file"),
    (b"OggS", "a media file"),
    (b"ID3", "a media file"),
    (b"fLaC", "a media file"),
    (b"{\\rtf", "an RTF document"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\x80\x04\x95", "a Python pickle"),
)
_AT = ((4, b"ftyp", "a media file"), (257, b"ustar", "a tar archive"))

_WEB_PAGE = re.compile(r"<(!doctype\s+html|html|head|body|meta|table|script|div)[\s>/]", re.IGNORECASE)
_XML = re.compile(r"<(\?xml|!doctype|!--|[A-Za-z_][\w.-]*(:[\w.-]+)?(\s[^<>]*)?/?>)", re.IGNORECASE)
_OTHER = (
    (
        re.compile(r"version https://git-lfs\.github\.com/spec/"),
        "a pointer of Git LFS: get the file itself (git lfs pull)",
    ),
    (re.compile(r"BEGIN:VCARD\s"), "a card of contacts (vCard)"),
    (re.compile(r"BEGIN:VCALENDAR\s"), "a calendar (iCalendar)"),
    (
        re.compile(r"(MIME-Version|Return-Path|Received|Message-ID): ", re.IGNORECASE),
        "an e-mail or a web archive (MIME)",
    ),
    (re.compile(r"ID;P\w*[;\r\n]"), "a SYLK file (.slk)"),
    (re.compile(r"-----BEGIN [A-Z ]+-----"), "a key or certificate (PEM)"),
    (
        re.compile(
            r"INSERT\s+INTO\s+\S+\s*(\(|VALUES|SELECT)|CREATE\s+TABLE\s[^;(]{1,200}\(|-- (My|Maria|Postgre)\w+ "
        ),
        "SQL",
    ),
    (re.compile(r"\|[^\r\n]*\|[ \t]*\r?\n\|[ \t]*:?-{2,}[ \t:|-]*\r?\n"), "a Markdown table"),
)
_JSON = re.compile(r"""\{\s*["}]|\[\s*([\[{\]]|"[^"\\]*"\s*[,\]]|-?\d+(\.\d+)?\s*[,\]]|(true|false|null)\s*[,\]])""")


def kind_of_bytes(start: bytes) -> str:
    """What a file is that begins with ``start`` and can be read by no reader; empty if none is known."""
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    for offset, signature, kind in _AT:
        if start[offset : offset + len(signature)] == signature:
            return kind
    return ""


def kind_of_text(start: str) -> str:
    """The same for text: a web page, XML and what else is not a table; empty if it may be one."""
    start = start.lstrip("\ufeff \t\r\n\f\v")
    if _WEB_PAGE.match(start) or ("<html" in start[:1_000].lower() and start.startswith("<")):
        return "a web page (HTML), whatever its name says"
    if _XML.match(start):
        return "XML, whatever its name says" if "Excel.Sheet" not in start[:500] else "an Excel 2003 XML sheet"
    return next((kind for pattern, kind in _OTHER if pattern.match(start)), "")


def is_json(start: str) -> bool:
    """Whether the text begins as a JSON object or array; ``[exact match]`` keywords do not."""
    return bool(_JSON.match(start.lstrip("\ufeff \t\r\n")))
