"""Finds out how a text is encoded, and refuses what is not text, is mixed, or in an unknown code page."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from automation.errors import InvalidInput
from automation.inputs.alphabets import is_odd, is_of_one_language
from automation.inputs.reader import refusal
from automation.inputs.spool import CHUNK_BYTES

if TYPE_CHECKING:
    from charset_normalizer.models import CharsetMatch

START_BYTES = 4_096
SAMPLE_BYTES = 64 << 10
LONGEST_LINE_BYTES = 1 << 20
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_CONTROL_BYTES = re.compile(CONTROL.pattern.encode())
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
USUAL = "cp1252"
"""What the West's spreadsheets write: taken where it fits as well as any other."""
CODE_PAGES = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r"),
    *("cp932", "gb18030", "big5", "cp949", "euc_jp", "mac_roman", "cp437", "cp850", "cp852", "cp866"),
]
_MOJIBAKE = re.compile(r"Ã[\u00a0-\u00bf]|â€[™œ“”˜\u009d]|Ð[\u0080-\u00bf]Ð")
_SAVE_IT = "save it as UTF-8"


@dataclass(frozen=True)
class Encoding:
    name: str
    warnings: tuple[str, ...] = ()


def detect(file: BinaryIO, name: str) -> Encoding:
    """By byte order mark, zero bytes, validity as UTF-8, else by what the text would be in each usual code page."""
    file.seek(0)
    start = file.read(START_BYTES)
    marked = next((encoding for mark, encoding in MARKS if start.startswith(mark)), "") or _unmarked(start)
    if marked:
        return _decoded(file, name, marked, because=f"it is not valid {marked.removesuffix('-sig').upper()} text")
    if found := _CONTROL_BYTES.search(start):
        raise _not_text(name, found.group().decode(), 1 + start.count(b"\n", 0, found.start()))
    lines = _Lines(file)
    if not lines.invalid:
        return _decoded(file, name, "utf-8")
    encoding, warning = _guess(lines, name)
    decoded = _decoded(file, name, encoding, because=f"it is neither UTF-8 nor {encoding} throughout; {_SAVE_IT}")
    return Encoding(encoding, (warning, *decoded.warnings))


def _unmarked(start: bytes) -> str:
    pairs = len(start) // 2
    if pairs and start[1::2].count(0) > 0.6 * pairs and start[0::2].count(0) == 0:
        return "utf-16-le"
    if pairs and start[0::2].count(0) > 0.6 * pairs and start[1::2].count(0) == 0:
        return "utf-16-be"
    return ""


class _Lines:
    """The lines with anything but ASCII in them: how many are UTF-8, how many are not, and the first of each."""

    def __init__(self, file: BinaryIO) -> None:
        self.valid = self.invalid = self.first_valid = self.first_invalid = 0
        self.sample = bytearray()
        for number, line in _byte_lines(file):
            if line.isascii():
                continue
            try:
                line.decode()
            except UnicodeDecodeError:
                self.invalid += 1
                self.first_invalid = self.first_invalid or number
                if len(self.sample) < SAMPLE_BYTES:
                    self.sample += line[:SAMPLE_BYTES] + b"\n"
            else:
                self.valid += 1
                self.first_valid = self.first_valid or number


def _byte_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines by any ending; one that is too long comes in pieces, which are cut between characters of UTF-8."""
    file.seek(0)
    number, rest = 1, b""
    while chunk := file.read(CHUNK_BYTES):
        if chunk.endswith(b"\r"):
            chunk += file.read(1)
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            yield number, line
            number += 1
        if len(rest) > LONGEST_LINE_BYTES:
            cut = next((at for at in range(len(rest) - 1, len(rest) - 5, -1) if rest[at] & 0xC0 != 0x80), len(rest))
            yield number, rest[:cut]
            rest = rest[cut:]
    if rest:
        yield number, rest


def _guess(lines: _Lines, name: str) -> tuple[str, str]:
    """The code page and a warning that it was guessed."""
    from charset_normalizer import from_bytes  # here: few inputs need it, and no worker

    sample = bytes(lines.sample)
    matches = list(from_bytes(sample, cp_isolation=CODE_PAGES, steps=5, chunk_size=min(512, len(sample))))
    encoding = _best(matches)
    # Single lines of other writings may happen to be UTF-8; Western text never is.
    is_western = encoding in ("", USUAL) or (
        encoding.startswith(("cp125", "mac", "cp4", "cp8")) and encoding != "cp1251"
    )
    if lines.valid and (is_western or lines.valid * 10 >= lines.invalid):
        raise refusal(
            name,
            f"it is not UTF-8, as line {lines.first_valid:,} is: the file mixes encodings; {_SAVE_IT}",
            "line",
            lines.first_invalid,
        )
    if not encoding:
        raise refusal(name, f"its code page is unknown; {_SAVE_IT}", "line", lines.first_invalid)
    example = sample.split(b"\n")[0].decode(encoding, "replace").strip()[:60]
    return encoding, (
        f"The file does not say how it is encoded. It is read as {encoding}: see that line {lines.first_invalid:,} "
        f"is right: {example!r}"
    )


def _best(matches: list[CharsetMatch]) -> str:
    """The one code page that fits best; the usual one of several that fit alike, else none."""
    if not matches or matches[0].chaos > 0.2:
        return ""
    matches = [match for match in matches if not is_odd(str(match))]
    if not matches:
        return ""
    least = min(match.chaos for match in matches)
    near = [match for match in matches if match.chaos <= least + 0.02]
    most = max(match.coherence for match in near)
    near = [match for match in near if match.coherence >= most - 0.05]
    # Short texts have no coherence to speak of; the letters of a language tell more.
    near = [match for match in near if is_of_one_language(str(match))] or near
    names = [{match.encoding, *match.could_be_from_charset} for match in near]
    if any(USUAL in alike for alike in names):
        return USUAL
    if len(near) > 1:
        near.sort(key=lambda match: _lower_share(str(match)), reverse=True)
        if _lower_share(str(near[0])) - _lower_share(str(near[1])) < 0.3:
            return ""
    return near[0].encoding


def _lower_share(text: str) -> float:
    """Share of small letters in what is no ASCII: the code pages of one writing often swap the cases."""
    letters = [letter for letter in text if letter > "\x7f" and letter.isalpha()]
    return sum(letter.islower() for letter in letters) / max(1, len(letters))


def _decoded(file: BinaryIO, name: str, encoding: str, because: str = "") -> Encoding:
    """Decode everything once. Raises :class:`InvalidInput` for what is not text; warns of what looks damaged."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    warnings: dict[str, str] = {}
    while True:
        chunk = file.read(CHUNK_BYTES)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError:
            raise refusal(name, because or f"it is not valid {encoding.upper()} text") from None
        if found := CONTROL.search(text):
            raise _not_text(name, found.group(), line + text.count("\n", 0, found.start()))
        if not text.isascii():
            _warn_of_damage(text, line, warnings)
        line += text.count("\n")
        if not chunk:
            return Encoding(encoding, tuple(warnings.values()))


def _not_text(name: str, control: str, line: int) -> InvalidInput:
    kind = "NUL bytes" if control == "\0" else f"the control character {control!a}"
    return refusal(name, f"it holds {kind}; expected a text file", "line", line)


def _warn_of_damage(text: str, line: int, warnings: dict[str, str]) -> None:
    if "replaced" not in warnings and (at := text.find("\ufffd")) >= 0:
        number = line + text.count("\n", 0, at)
        warnings["replaced"] = f"Characters were lost before this file was saved, first in line {number:,} (�)."
    if "twice" not in warnings and (found := _MOJIBAKE.search(text)):
        number = line + text.count("\n", 0, found.start())
        near = text[max(0, found.start() - 10) : found.end() + 10].split("\n")
        around = next(part for part in near if _MOJIBAKE.search(part)).strip()
        warnings["twice"] = f"Line {number:,} looks as if it had been encoded twice: {around!r}."
