"""A Celery beat that records heartbeats and writes nothing to disk: every schedule here is a short interval."""

from __future__ import annotations

import time
from typing import Any

from celery.beat import Scheduler

from backend import heartbeats


class HeartbeatScheduler(Scheduler):
    """The in-memory scheduler; records a heartbeat in Redis, at most one per second, for ``/readyz``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._recorded_at = 0.0
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send the tasks that are due; returns the seconds until the next tick."""
        wait: float = super().tick(*args, **kwargs)
        if time.monotonic() - self._recorded_at >= 1 and heartbeats.record(heartbeats.BEAT):
            self._recorded_at = time.monotonic()
        return wait
