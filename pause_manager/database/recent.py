"""What is asked all the time and costs most where there is most: a large answer is good for some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

LARGE = 20_000
"""Rows. Of that many a person does not see whether the figure is of now or of some seconds ago."""
SECONDS = 5.0

Answer = TypeVar("Answer")


class Recent(Generic[Answer]):
    """A read whose answer is kept for :data:`SECONDS` in this process if it is of ``large`` rows or more."""

    def __init__(self, read: Callable[[], Answer], rows: Callable[[Answer], int], large: int = LARGE) -> None:
        self._read, self._rows, self._large = read, rows, large
        self._kept: tuple[float, Answer] | None = None

    def __call__(self) -> Answer:
        """The answer of now, or of lately."""
        kept, now = self._kept, time.monotonic()
        if kept is not None and now < kept[0]:
            return kept[1]
        found = self._read()
        self._kept = (now + SECONDS, found) if self._rows(found) >= self._large else None
        return found
