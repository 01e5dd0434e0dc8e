"""The items of a slice that its holder may begin, where something limits them; see ``leases.allowances``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from automation.items.leased_slice import LeasedSlice
from automation.leases.allowances import Draw
from pause_manager.holds.stops import Stop

MOST_AT_ONCE = 512
DRAW_SECONDS = 1.0
"""Where what was drawn lasts less long, twice as much is drawn next."""
WAIT_SECONDS = 5.0
"""A loop that is told to ask again does so for this long, then gives its slice back."""
PAUSE_SECONDS = 0.2


class PermittedItems:
    """``pairs`` of one slice as far as they may begin. After the last, ``is_cut`` tells whether some were left."""

    def __init__(
        self,
        draw: Draw,
        work: LeasedSlice,
        pairs: Iterator[tuple[str, Any]],
        check_should_stop: Callable[[], tuple[bool, Stop | None]],
    ) -> None:
        self._draw = draw
        self._work = work
        self._check_should_stop = check_should_stop
        self._pairs = pairs
        self.is_cut = False
        self.stop: Stop | None = None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        left, wanted, drawn_at = 0, 1, -DRAW_SECONDS
        for pair in self._pairs:
            if not left:
                now = time.monotonic()
                wanted = min(2 * wanted, MOST_AT_ONCE) if now - drawn_at < DRAW_SECONDS else max(1, wanted // 2)
                left, drawn_at = self._drawn(wanted), now
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
