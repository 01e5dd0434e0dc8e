"""Rows of items in and out of PostgreSQL in bulk: COPY in, keyset chunks out. Never one statement an item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
from django.db import Error as DatabaseError
from django.db import connection

from automation import keys
from automation.models import WorkItem
from pause_manager import database

if TYPE_CHECKING:
    from automation.aside import Aside

ITEM = WorkItem._meta.db_table
FIRST_CHUNK = 500
CHUNK = 5_000
CHUNK_BYTES = 1 << 20
"""Items are read in chunks of about so many bytes, ``CHUNK`` items at most, so that large ones fill no memory."""
BLOCK = 1 << 18

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class UnfitPayload(ValueError):
    """The payload cannot be stored as a JSON object; the sentence says why."""


def encode(payload: Any) -> bytes:
    """``payload`` as a JSON object ready to store, or ``UnfitPayload``."""
    if not isinstance(payload, dict):
        raise UnfitPayload(f"expected an output that is a JSON object (dict), got: {type(payload).__name__}")
    try:
        encoded = orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise UnfitPayload(f"expected an output made of JSON values: {error}") from None
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise UnfitPayload("expected an output without NUL characters")
    return encoded


def row(made_by: bytes, key: str, encoded: bytes) -> bytes:
    """One line of COPY text; ``made_by`` is the stage run's id as ASCII digits. JSON holds no raw tab or newline."""
    if b"\\" in encoded:
        encoded = encoded.replace(b"\\", b"\\\\")
    return b"%b\t%b\t%b\n" % (made_by, key.encode(), encoded)


def output_rows(key: str, outputs: Iterable[Any]) -> list[bytes]:
    """What a checkpoint takes of the outputs of item ``key``: lines of key, tab and JSON. Or ``UnfitPayload``."""
    if isinstance(outputs, dict | str | bytes) or not isinstance(outputs, Iterable):
        raise UnfitPayload(_of_wrong_type(outputs))
    start = key.encode()
    rows = []
    for ordinal, output in enumerate(outputs):
        segment = keys.ENCODED_SEGMENTS[ordinal] if ordinal < 1_000 else keys.segment(ordinal).encode()
        rows.append(b"%b.%b\t%b" % (start, segment, encode(output)))
    return rows


def _of_wrong_type(outputs: Any) -> str:
    if outputs is None:
        return (
            "expected the outputs of process(), got None: yield each output, or return a list (an empty one for none)"
        )
    if isinstance(outputs, dict):
        return "expected the outputs of process(), got one dict: yield it, or return [it]"
    return f"expected the outputs of process(), dicts in a list or yielded, got: {type(outputs).__name__}"


def write(rows: Iterable[bytes]) -> None:
    """COPY ``rows`` into the items, in the caller's transaction."""
    statement = f"COPY {ITEM} (made_by_id, key, payload) FROM STDIN"
    # The driver's own errors would pass by everybody who waits for Django's.
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
        block: list[bytes] = []
        size = 0
        for line in rows:
            block.append(line)
            size += len(line)
            if size >= BLOCK:
                copy.write(b"".join(block))
                block, size = [], 0
        copy.write(b"".join(block))


_READ = "SELECT automation_items({}::bigint, {}, {}, {}, {}::int)"
_READ_HERE = _READ.format(*["%s"] * 5)
_READ_ASIDE = _READ.format(*[f"${number}" for number in range(1, 6)]).encode()
_LAST_KEY = "~"
"""After every key there is."""


def read(
    made_by: int, *, first: str = "", after: str = "", up_to: str = _LAST_KEY, ahead: Aside | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, payload) of the items of ``made_by`` in order, a chunk at a time, with keys after ``after``.

    The first chunk is read on the caller's own connection; with ``ahead``, the others are read there while the caller
    works on the one before.
    """
    size = FIRST_CHUNK
    is_coming = False
    while True:
        given = [made_by, first, after, up_to, size]
        text = _come(ahead, given) if is_coming and ahead is not None else _read_here(given)
        chunk = orjson.loads(text)
        is_last = len(chunk) < size
        if not is_last:
            after = chunk[-1][0]
            size = max(1, min(CHUNK, CHUNK_BYTES * len(chunk) // len(text)))
            is_coming = ahead is not None and _set_off(ahead, [made_by, first, after, up_to, size])
        yield from chunk
        if is_last:
            return


def _read_here(given: list[Any]) -> str | bytes:
    with connection.cursor() as cursor:
        cursor.execute(_READ_HERE, given)
        text: str = cursor.fetchone()[0]
    return text


def _set_off(ahead: Aside, given: list[Any]) -> bool:
    try:
        ahead.send(_READ_ASIDE, [str(value).encode() for value in given])
    except DatabaseError as error:
        if not database.is_away(error):
            raise
        return False  # the caller's own connection will tell whether the database is away
    return True


def _come(ahead: Aside, given: list[Any]) -> str | bytes:
    try:
        return ahead.result() or b"[]"
    except DatabaseError as error:
        if not database.is_away(error):
            raise
        return _read_here(given)
