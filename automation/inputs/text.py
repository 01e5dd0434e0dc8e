"""Lines of a text file, each of bounded length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from automation.inputs.reader import refusal

LONGEST_LINE = 8 << 20
"""Characters; no item may be larger."""


@contextmanager
def opened(file: BinaryIO, encoding: str) -> Iterator[io.TextIOWrapper]:
    """``file`` from its beginning, as text; it stays open."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        yield text
    finally:
        with suppress(ValueError):  # the caller may have closed the file before it let go of the items
            text.detach()


def lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """Lines with their endings, in order."""
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise refusal(name, f"it is longer than {LONGEST_LINE:,} characters", "line", number)
        yield line
