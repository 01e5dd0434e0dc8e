"""JSON and JSON lines, an object at a time: memory is bounded by the largest item, not by the file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from automation import conf
from automation.errors import InvalidInput
from automation.inputs import text
from automation.inputs.archives import Content
from automation.inputs.encoding import Encoding
from automation.inputs.reader import Numbered, refusal
from automation.inputs.report import BLANK, OTHER_PART, LeftOut, Payload, Report, Tally, example_of

CHUNK = 256 << 10
_SPACE = re.compile(r"[ \t\r\n]*")
LONGEST_TOKEN = 16
"""Characters of ``-Infinity``, an escape, and the like."""
MOST_LEVELS = 3
"""How deep a list of items may lie in objects."""


class _Unreadable(Exception):
    """A value that is not JSON; the text says why."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Unreadable(f"two members are named {next(name for name in names if names.count(name) > 1)!r}")
    return value


def _constant(name: str) -> Any:
    raise _Unreadable(f"{name} is not a number in JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, _Unreadable):
        return str(error)
    return f"it is not valid JSON: {error}"


_ERRORS = (ValueError, RecursionError, _Unreadable)


class Cursor:
    """A place in a JSON text that is read in chunks."""

    def __init__(self, source: io.TextIOWrapper, name: str) -> None:
        self._source = source
        self._name = name
        self._text = ""
        self._at = 0
        self._is_end = False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            end = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            self._go_to(end)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        found = self.peek()
        if found != expected:
            raise self.refusal(f"it is not valid JSON: expected {expected}, got {found or 'the end of the file'!r}")
        self._go_to(self._at + 1)

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        most = conf.settings().max_item_bytes
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except _ERRORS as error:
                if self._is_end or not self._may_be_cut_off(error):
                    raise self.refusal(_reason(error)) from None
            else:
                if end < len(self._text) or self._is_end:
                    self._go_to(end)
                    return value
            if len(self._text) - self._at > most:
                raise self.refusal(f"it is larger than {most:,} characters, or it is not valid JSON")
            self._more()

    def refusal(self, reason: str) -> InvalidInput:
        return refusal(self._name, reason, "line", self.line)

    def _may_be_cut_off(self, error: Exception) -> bool:
        """Whether it may be only the chunk that ends: a text that does not end, or an error at its very end."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos + LONGEST_TOKEN > len(self._text)

    def _go_to(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        # Twice as much each time: a large value is not decoded from its beginning for every chunk.
        chunk = self._source.read(max(CHUNK, len(self._text) - self._at))
        self._is_end = not chunk
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)


def elements(cursor: Cursor) -> Iterator[tuple[int, Any]]:
    """The elements of an array that begins here, each with its line."""
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
        return
    while True:
        cursor.peek()
        yield cursor.line, cursor.value()
        if cursor.peek() == "]":
            cursor.take("]")
            return
        cursor.take(",")


def members(cursor: Cursor) -> Iterator[str]:
    """The names of an object that begins here; the caller reads each value before it asks for the next."""
    cursor.take("{")
    if cursor.peek() == "}":
        cursor.take("}")
        return
    while True:
        if cursor.peek() != '"':
            raise cursor.refusal("it is not valid JSON: expected the name of a member in double quotes")
        name = cursor.value()
        cursor.take(":")
        yield name
        if cursor.peek() == "}":
            cursor.take("}")
            return
        cursor.take(",")


def source_of(content: Content, found: Encoding) -> tuple[Report, Numbered]:
    """What the file holds as JSON, and a function that reads its items."""
    file, name, encoding, warnings = content.file, content.name, found.name, found.warnings
    if content.is_named(".jsonl", ".ndjson", ".jsonlines") or _is_lines(file, encoding):
        report = Report(name, "JSON lines", encoding=encoding, warnings=warnings)
        return report, lambda tally: _of_lines(file, name, encoding, tally)
    with text.opened(file, encoding) as opened:
        cursor = Cursor(opened, name)
        start = cursor.peek()
        if start == "[":
            report = Report(name, "JSON", encoding=encoding, warnings=warnings)
            return report, lambda tally: _of_array(file, name, encoding, ())
        lists, others = _lists(cursor, name)
        if cursor.peek():
            raise cursor.refusal("a second value begins here; expected one value, or one object a line")
    if len(lists) > 1:
        shown = ", ".join(".".join(path) for path in lists)
        raise refusal(name, f"it has several lists of objects ({shown}); expected one: give that alone")
    if not lists:
        report = Report(
            name, "JSON", encoding=encoding, warnings=(*warnings, "The file is one object: it is read as one item.")
        )
        return report, lambda tally: _of_object(file, name, encoding)
    left_out = (LeftOut(OTHER_PART, len(others), (example_of(others),)),) if others else ()
    path = lists[0]
    part = ".".join(path)
    told = f"The items are those of the list {part!r}" + (": what stands beside it is left out." if others else ".")
    report = Report(name, "JSON", part, encoding=encoding, warnings=(*warnings, told), left_out=left_out)
    return report, lambda tally: _of_array(file, name, encoding, path)


def _is_lines(file: BinaryIO, encoding: str) -> bool:
    """Whether every line is a value of its own: the first line is one, and more follow."""
    with text.opened(file, encoding) as opened:
        first, second = _next_line(opened), _next_line(opened)
        # A broken first line is one of JSON lines if the second stands alone.
        return bool(second) and (_is_object(first) or (first.lstrip().startswith("{") and _is_object(second)))


def _next_line(opened: io.TextIOWrapper) -> str:
    """The next line that is not blank; nothing at the end, or if it is longer than any item."""
    while line := opened.readline(text.LONGEST_LINE):
        if line.strip():
            return line if len(line) < text.LONGEST_LINE else ""
    return ""


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_lines(file: BinaryIO, name: str, encoding: str, tally: Tally) -> Iterator[tuple[int, Payload]]:
    with text.opened(file, encoding) as opened:
        for number, line in enumerate(text.lines(opened, name), start=1):
            line = line.strip()
            if not line:
                tally.leave_out(BLANK)
                continue
            try:
                value = _DECODER.decode(line)
            except _ERRORS as error:
                raise refusal(name, _reason(error), "line", number) from None
            yield number, _item(value, name, number)


def _of_array(file: BinaryIO, name: str, encoding: str, path: tuple[str, ...]) -> Iterator[tuple[int, Payload]]:
    with text.opened(file, encoding) as opened:
        cursor = Cursor(opened, name)
        _go_into(cursor, path)
        for number, value in elements(cursor):
            yield number, _item(value, name, number)
        if not path and cursor.peek():
            raise cursor.refusal("a second value begins here; expected one array, or one object a line")


def _of_object(file: BinaryIO, name: str, encoding: str) -> Iterator[tuple[int, Payload]]:
    with text.opened(file, encoding) as opened:
        yield 1, _item(Cursor(opened, name).value(), name, 1)


def _item(value: Any, name: str, number: int) -> Payload:
    if not isinstance(value, dict):
        raise refusal(name, f"expected an object, got: {json.dumps(value, ensure_ascii=False)[:80]}", "line", number)
    return value


def _go_into(cursor: Cursor, path: tuple[str, ...]) -> None:
    for wanted in path:
        for name in members(cursor):
            if name == wanted:
                break
            _skip(cursor)


def _skip(cursor: Cursor) -> None:
    if cursor.peek() == "[":
        for _ in elements(cursor):
            pass
    else:
        cursor.value()


def _lists(cursor: Cursor, name: str, path: tuple[str, ...] = ()) -> tuple[list[tuple[str, ...]], list[str]]:
    """The lists of objects within an object, by the names that lead to them, and the names of all else."""
    found: list[tuple[str, ...]] = []
    others: list[str] = []
    seen: set[str] = set()
    for member in members(cursor):
        if member in seen:
            raise cursor.refusal(f"two members are named {member!r}")
        seen.add(member)
        here = (*path, member)
        if cursor.peek() == "[":
            if _is_list_of_objects(cursor):
                found.append(here)
            else:
                others.append(".".join(here))
        elif cursor.peek() == "{" and len(here) < MOST_LEVELS:
            inner, more = _lists(cursor, name, here)
            found += inner
            others += more if inner else [".".join(here)]
        else:
            _skip(cursor)
            others.append(".".join(here))
    return found, others


def _is_list_of_objects(cursor: Cursor) -> bool:
    is_list = False
    for _, value in elements(cursor):
        is_list = is_list or isinstance(value, dict)
    return is_list
