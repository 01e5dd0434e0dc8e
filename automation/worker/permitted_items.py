"""The items of a slice that its holder may begin, where something limits them; see ``leases.allowances``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from automation.items.leased_slice import LeasedSlice
from automation.leases.allowances import Draw
from pause_manager.holds.stops import Stop

MOST_AT_ONCE = 16_384
DRAW_SECONDS = 1.0
"""What is drawn lasts about so long: a draw takes as long as 50 items of 100 µs."""
MOST_GROWTH = 16
"""From one draw to the next: a few short items tell little about those after them."""
WAIT_SECONDS = 5.0
"""A loop that is told to ask again does so for this long, then gives its slice back."""
PAUSE_SECONDS = 0.2


class DrawSize:
    """How many passes a loop draws next: about as many as last for :data:`DRAW_SECONDS`, over all its slices."""

    def __init__(self) -> None:
        self._passes = 1
        self._drawn_at: float | None = None

    def next(self) -> int:
        """Of the draw that is made now."""
        now = time.monotonic()
        if self._drawn_at is not None:
            growth = DRAW_SECONDS / max(now - self._drawn_at, DRAW_SECONDS / MOST_GROWTH)
            self._passes = min(max(1, int(growth * self._passes)), MOST_AT_ONCE)
        self._drawn_at = now
        return self._passes


class PermittedItems:
    """``pairs`` of one slice as far as they may begin. After the last, ``is_cut`` tells whether some were left."""

    def __init__(
        self,
        draw: Draw,
        size: DrawSize,
        work: LeasedSlice,
        pairs: Iterator[tuple[str, Any]],
        check_should_stop: Callable[[], tuple[bool, Stop | None]],
    ) -> None:
        self._draw = draw
        self._size = size
        self._work = work
        self._check_should_stop = check_should_stop
        self._pairs = pairs
        self.is_cut = False
        self.stop: Stop | None = None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        left = 0
        for pair in self._pairs:
            if not left:
                left = self._drawn(min(self._size.next(), max(1, self._work.left)))
                if not left:
                    self.is_cut = True
                    return
            left -= 1
            yield pair

    def _drawn(self, wanted: int) -> int:
        gives_up_at = time.monotonic() + WAIT_SECONDS
        while True:
            permit = self._draw(self._work, wanted)
            if permit.passes or permit.stop is not None:
                self.stop = permit.stop
                return permit.passes
            should_stop, self.stop = self._check_should_stop()
            if should_stop or time.monotonic() > gives_up_at:
                return 0
            time.sleep(PAUSE_SECONDS)
