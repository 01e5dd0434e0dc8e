"""Rows of items in and out of PostgreSQL in bulk: COPY in, keyset chunks by bytes out. Never one statement an item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
from django.db import Error as DatabaseError
from django.db import connection

from automation import conf, keys
from automation.models import WorkItem
from pause_manager import database
from pause_manager.finite import non_finite

if TYPE_CHECKING:
    from automation.aside import Aside

ITEM = WorkItem._meta.db_table
FIRST_CHUNK = 500
CHUNK = 5_000
CHUNK_BYTES = 1 << 20
"""A chunk ends with the item that makes it larger than this, so that large ones fill no memory; ``CHUNK`` at most."""
MOST_BYTES_AT_ONCE = 256 * 1024 * 1024
"""All outputs of one item are committed by one statement, which PostgreSQL takes up to 1 GB."""
BLOCK = 1 << 18

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class UnfitPayload(ValueError):
    """The payload cannot be stored as a JSON object; the sentence says why."""


def encode(payload: Any, most_bytes: int | None = None) -> bytes:
    """``payload`` as a JSON object ready to store, or ``UnfitPayload``.

    ``most_bytes`` is what it may take; ``None``: as much as the settings say.
    """
    if not isinstance(payload, dict):
        raise UnfitPayload(f"expected an output that is a JSON object (dict), got: {type(payload).__name__}")
    try:
        encoded = orjson.dumps(payload, None, _NUMPY)
    except TypeError as error:
        raise UnfitPayload(f"expected an output made of JSON values: {error}") from None
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise UnfitPayload("expected an output without NUL characters")
    # What is no number has become null.
    if b"null" in encoded and (found := non_finite(payload)):
        raise UnfitPayload(f"expected an output of finite numbers: {found}")
    if len(encoded) > LEAST_LIMIT:
        _check_size(encoded, most_bytes)
    return encoded


LEAST_LIMIT = 1024
"""No limit is lower: what is smaller than that is not asked about."""


def _check_size(encoded: bytes, most_bytes: int | None) -> None:
    most = conf.settings().max_item_bytes if most_bytes is None else most_bytes
    if len(encoded) > most:
        raise UnfitPayload(
            f"expected an output of at most {most:,} bytes, got: {len(encoded):,}; "
            f"keep it in ctx.artifacts, and its name in the output"
        )


def row(made_by: bytes, key: str, encoded: bytes) -> bytes:
    """One line of COPY text; ``made_by`` is the stage run's id as ASCII digits. JSON holds no raw tab or newline."""
    if b"\\" in encoded:
        encoded = encoded.replace(b"\\", b"\\\\")
    return b"%b\t%b\t%b\n" % (made_by, key.encode(), encoded)


def output_rows(key: str, outputs: Iterable[Any], most_bytes: int | None = None) -> list[bytes]:
    """What a checkpoint takes of the outputs of item ``key``: lines of key, tab and JSON. Or ``UnfitPayload``."""
    if (type(outputs) is tuple or type(outputs) is list) and len(outputs) == 1:
        line = b"%b.000\t%b" % (key.encode(), encode(outputs[0], most_bytes))
        if len(line) <= MOST_BYTES_AT_ONCE:
            return [line]
    if isinstance(outputs, dict | str | bytes) or not isinstance(outputs, Iterable):
        raise UnfitPayload(_of_wrong_type(outputs))
    start = key.encode()
    rows = []
    size = 0
    for ordinal, output in enumerate(outputs):
        segment = keys.ENCODED_SEGMENTS[ordinal] if ordinal < 1_000 else keys.segment(ordinal).encode()
        line = b"%b.%b\t%b" % (start, segment, encode(output, most_bytes))
        rows.append(line)
        size += len(line)
        if size > MOST_BYTES_AT_ONCE:
            raise UnfitPayload(
                f"expected outputs of at most {MOST_BYTES_AT_ONCE:,} bytes together; keep them in ctx.artifacts"
            )
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


_READ = "SELECT automation_items({}::bigint, {}, {}, {}, {}::int, {}::bigint)"
_READ_HERE = _READ.format(*["%s"] * 6)
_READ_ASIDE = _READ.format(*[f"${number}" for number in range(1, 7)]).encode()
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
    made_by: int, *, first: str = "", after: str = "", up_to: str = _LAST_KEY, ahead: Aside | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, payload) of the items that :func:`read_chunks` reads."""
    for chunk in read_chunks(made_by, first=first, after=after, up_to=up_to, ahead=ahead):
        yield from chunk.rows


def read_chunks(
    made_by: int, *, first: str = "", after: str = "", up_to: str = _LAST_KEY, ahead: Aside | None = None
) -> Iterator[Chunk]:
    """The items of ``made_by`` in order, a chunk at a time, with keys from ``first`` on and after ``after``.

    The first chunk is read on the caller's own connection; with ``ahead``, the others are read there while the caller
    works on the one before.
    """
    size = FIRST_CHUNK
    is_coming = False
    while True:
        given = [made_by, first, after, up_to, size, CHUNK_BYTES]
        text = _come(ahead, given) if is_coming and ahead is not None else _read_here(given)
        chunk = Chunk(text)
        if not chunk.rows:
            return
        after = chunk.rows[-1][0]
        is_last = after >= up_to
        if not is_last:
            size = max(1, min(CHUNK, CHUNK_BYTES * len(chunk.rows) // len(text)))
            is_coming = ahead is not None and _set_off(ahead, [made_by, first, after, up_to, size, CHUNK_BYTES])
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
