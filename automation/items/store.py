"""Rows of items in and out of PostgreSQL in bulk: COPY in, keyset chunks by bytes out. Never one statement an item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from django.db import Error as DatabaseError
from django.db import connection

from automation.items import keys
from automation.items.background_connection import BackgroundConnection
from automation.items.partial_items import PartialItem
from automation.models.tables import ITEM
from automation.pipeline.payloads import UnfitPayload as UnfitPayload
from automation.pipeline.payloads import encode as encode
from automation.pipeline.payloads import of_wrong_type
from pause_manager import database

FIRST_CHUNK = 500
CHUNK = 5_000
CHUNK_BYTES = 1 << 20
"""A chunk ends with the item that makes it larger than this, so that large ones fill no memory; ``CHUNK`` at most."""
MOST_BYTES_AT_ONCE = 256 * 1024 * 1024
"""All outputs that an agent hands in for one item are committed by one statement, which PostgreSQL takes up to 1 GB."""
SPILL_BYTES = 4 * 1024 * 1024
"""Of the outputs of one item so much is kept in memory."""
BLOCK = 1 << 18


def row(made_by: bytes, key: str, encoded: bytes) -> bytes:
    """One line of COPY text; ``made_by`` is the stage run's id as ASCII digits. JSON holds no raw tab or newline."""
    if b"\\" in encoded:
        encoded = encoded.replace(b"\\", b"\\\\")
    return b"%b\t%b\t%b\n" % (made_by, key.encode(), encoded)


def output_rows(
    key: str, outputs: Iterable[Any], most_bytes: int | None = None, partial_item: PartialItem | None = None
) -> list[bytes]:
    """What a checkpoint takes of the outputs of item ``key``: lines of key, tab and JSON. Or ``UnfitPayload``.

    What is too much for memory is committed by ``partial_item`` as it comes; the rest is returned.
    """
    if (type(outputs) is tuple or type(outputs) is list) and len(outputs) == 1:
        line = b"%b.000\t%b" % (key.encode(), encode(outputs[0], most_bytes))
        if len(line) <= MOST_BYTES_AT_ONCE:
            return [line]
    if isinstance(outputs, dict | str | bytes) or not isinstance(outputs, Iterable):
        raise UnfitPayload(of_wrong_type(outputs))
    start = key.encode()
    rows: list[bytes] = []
    size = 0
    most_at_once = MOST_BYTES_AT_ONCE
    if partial_item is not None:
        partial_item.key, partial_item.rows, most_at_once = key, rows, SPILL_BYTES
    for ordinal, output in enumerate(outputs):
        segment = keys.ENCODED_SEGMENTS[ordinal] if ordinal < 1_000 else keys.segment(ordinal).encode()
        line = b"%b.%b\t%b" % (start, segment, encode(output, most_bytes))
        rows.append(line)
        size += len(line)
        if size > most_at_once:
            if partial_item is not None:
                partial_item.spill()
                size = 0
                continue
            raise UnfitPayload(
                f"expected outputs of at most {MOST_BYTES_AT_ONCE:,} bytes together; keep them in ctx.artifacts"
            )
    return rows


def output_row(key: bytes, ordinal: int, output: Any, most_bytes: int | None = None) -> bytes:
    """The line of one output of item ``key``."""
    return b"%b.%b\t%b" % (key, keys.segment(ordinal).encode(), encode(output, most_bytes))


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


_READ = "SELECT automation_items({}::bigint, {}, {}, {}, {}::int, {}::bigint)"
_READ_HERE = _READ.format(*["%s"] * 6)
_READ_IN_BACKGROUND = _READ.format(*[f"${number}" for number in range(1, 7)]).encode()
_LAST_KEY = "~"
"""After every key there is."""


class Chunk:
    """Items that were read at once, in order: ``rows`` of key and payload."""

    __slots__ = ("_stored", "_text", "rows")

    def __init__(self, text: str | bytes) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = orjson.loads(text)
        self._text = text
        self._stored: list[tuple[str, dict[str, Any]]] | None = None

    def stored(self, index: int) -> dict[str, Any]:
        """The payload of row ``index`` as it is stored, whatever was done to the one that was handed out before."""
        if self._stored is None:
            self._stored = orjson.loads(self._text)
        payload: dict[str, Any] = orjson.loads(orjson.dumps(self._stored[index][1]))
        return payload


def read(
    made_by: int, *, first: str = "", after: str = "", up_to: str = _LAST_KEY, ahead: BackgroundConnection | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, payload) of the items that :func:`read_chunks` reads."""
    for chunk in read_chunks(made_by, first=first, after=after, up_to=up_to, ahead=ahead):
        yield from chunk.rows


def read_chunks(
    made_by: int, *, first: str = "", after: str = "", up_to: str = _LAST_KEY, ahead: BackgroundConnection | None = None
) -> Iterator[Chunk]:
    """The items of ``made_by`` in order, a chunk at a time, with keys from ``first`` on and after ``after``.

    The first chunk is read on the caller's own connection; with ``ahead``, the others are read there while the caller
    works on the one before.
    """
    size = FIRST_CHUNK
    is_prefetching = False
    while True:
        given = [made_by, first, after, up_to, size, CHUNK_BYTES]
        text = _prefetched(ahead, given) if is_prefetching and ahead is not None else _read_here(given)
        chunk = Chunk(text)
        if not chunk.rows:
            return
        after = chunk.rows[-1][0]
        is_last = after >= up_to
        if not is_last:
            size = max(1, min(CHUNK, CHUNK_BYTES * len(chunk.rows) // len(text)))
            is_prefetching = ahead is not None and _start_prefetch(
                ahead, [made_by, first, after, up_to, size, CHUNK_BYTES]
            )
        yield chunk
        if is_last:
            return


def read_keys(made_by: int, *, first: str, after: str, up_to: str) -> list[str]:
    """The keys alone of what :func:`read` reads: the same time and memory, whatever the items weigh."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT key FROM {ITEM} WHERE made_by_id = %s AND key >= %s AND key > %s AND key <= %s ORDER BY key",
            [made_by, first, after, up_to],
        )
        return [key for (key,) in cursor.fetchall()]


def _read_here(given: list[Any]) -> str | bytes:
    with connection.cursor() as cursor:
        cursor.execute(_READ_HERE, given)
        text: str = cursor.fetchone()[0]
    return text


def _start_prefetch(ahead: BackgroundConnection, given: list[Any]) -> bool:
    try:
        ahead.send(_READ_IN_BACKGROUND, [str(value).encode() for value in given])
    except DatabaseError as error:
        if not database.is_away(error):
            raise
        return False  # the caller's own connection will tell whether the database is away
    return True


def _prefetched(ahead: BackgroundConnection, given: list[Any]) -> str | bytes:
    try:
        return ahead.result() or b"[]"
    except DatabaseError as error:
        if not database.is_away(error):
            raise
        return _read_here(given)
