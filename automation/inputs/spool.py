"""Temporary copies of what has to be unpacked before it can be read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

CHUNK_BYTES = 1 << 20
IN_MEMORY_BYTES = 8 << 20


class _Spool(tempfile.SpooledTemporaryFile[bytes]):
    """Ends with its last reader: readers keep it for as long as items may be read again."""

    def __del__(self) -> None:
        self.close()


def spool() -> BinaryIO:
    """A file that is in memory while it is small; it needs no closing."""
    return cast(BinaryIO, _Spool(max_size=IN_MEMORY_BYTES))


def copy(read: Callable[[int], bytes], most_bytes: int, refuse: Callable[[], Exception]) -> BinaryIO:
    """A copy of what ``read`` returns. Raises ``refuse()`` as soon as it is more than ``most_bytes``."""
    target = spool()
    size = 0
    while chunk := read(CHUNK_BYTES):
        size += len(chunk)
        if size > most_bytes:
            raise refuse()
        target.write(chunk)
    target.seek(0)
    return target
