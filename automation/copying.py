"""Rows of items in and out of PostgreSQL in bulk: COPY in, keyset chunks out. Never one statement an item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from django.db import connection

from automation import keys
from automation.models import WorkItem

ITEM = WorkItem._meta.db_table
CHUNK = 2_000
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


def output_rows(made_by: bytes, key: str, outputs: Iterable[Any]) -> list[bytes]:
    """The COPY rows of the outputs of the item ``key``, or ``UnfitPayload``: ``row`` for the hot path."""
    start = b"%b\t%b." % (made_by, key.encode())
    rows = []
    for ordinal, output in enumerate(outputs):
        encoded = encode(output)
        if b"\\" in encoded:
            encoded = encoded.replace(b"\\", b"\\\\")
        segment = keys.ENCODED_SEGMENTS[ordinal] if ordinal < 1_000 else keys.segment(ordinal).encode()
        rows.append(b"%b%b\t%b\n" % (start, segment, encoded))
    return rows


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


def read(
    made_by: int, *, first: str = "", after: str = "", up_to: str | None = None, chunk: int = CHUNK
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, payload) of the items of ``made_by`` in order, a chunk at a time, with keys after ``after``."""
    bound = "AND key <= %(up_to)s" if up_to is not None else ""
    statement = (
        f"SELECT key, payload::text FROM {ITEM} "
        f"WHERE made_by_id = %(made_by)s AND key >= %(first)s AND key > %(after)s {bound} ORDER BY key LIMIT %(chunk)s"
    )
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                statement, {"made_by": made_by, "first": first, "after": after, "up_to": up_to, "chunk": chunk}
            )
            rows = cursor.fetchall()
        for key, text in rows:
            yield key, orjson.loads(text)
        if len(rows) < chunk:
            return
        after = rows[-1][0]
