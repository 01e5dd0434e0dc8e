"""Beat that says it is alive, and keeps nothing on disk: every schedule here is a short interval."""

from __future__ import annotations

import time
from typing import Any

from celery.beat import Scheduler

from backend import ticks


class TickingScheduler(Scheduler):
    """The in-memory scheduler, which leaves the time of its last tick in Redis for ``/readyz``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._last_mark = 0.0
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; returns the seconds until the next tick."""
        wait: float = super().tick(*args, **kwargs)
        if time.monotonic() - self._last_mark >= 1 and ticks.mark(ticks.BEAT):
            self._last_mark = time.monotonic()
        return wait
