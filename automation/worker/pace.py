"""The pace of a loop whose stage uses a resource with a limit of starts a minute.

Starts are taken in batches, one statement each: a batch is good for a second, and what is left of it then is lost. So
it is twice as large as the one before if that was used up, and else a single start.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pause_manager import resources
from pause_manager.holds.stops import Stop
from pause_manager.resources.limits import SOON_SECONDS
from pause_manager.resources.writer import WORTH_SECONDS

PACED = "paced"
LOOK_SECONDS = 0.05

Check = Callable[[], tuple[bool, Stop | None]]


class Pace:
    """Of one slice. ``names`` are the resources whose starts are counted."""

    def __init__(self, names: tuple[str, ...], check_should_stop: Check) -> None:
        self._names = names
        self._check_should_stop = check_should_stop
        self._most = 1
        self._left = 0
        self._good_until = 0.0

    def check(self) -> tuple[bool, Stop | None]:
        """(whether to stop before the next item, why), once one may start; it is taken to start then."""
        while not (stop := self._check_should_stop())[0]:
            wait, name = self.wait()
            if not wait:
                return False, None
            if wait > SOON_SECONDS:
                return True, stop_of(name)
            time.sleep(min(wait, LOOK_SECONDS))
        return stop

    def wait(self) -> tuple[float, str]:
        """Seconds until one more may start, because of which resource; 0: it may, and is taken to start now."""
        if self._left and time.monotonic() < self._good_until:
            self._left -= 1
            return 0.0, ""
        most = least = 1 if self._left else self._most * 2
        taken_at = time.monotonic()
        for name in self._names:
            count, seconds = resources.take_starts(name, most)
            if count == 0:
                return max(seconds, 0.001), name
            if count > 0:
                least = min(least, count)
        self._most = least
        self._left, self._good_until = least - 1, taken_at + WORTH_SECONDS
        return 0.0, ""


def stop_of(name: str) -> Stop:
    """Why a loop leaves that would have to wait for long."""
    return Stop(PACED, f"Resource {name} takes no more starts for now.")
