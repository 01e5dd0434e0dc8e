"""Beat that says it is alive, and keeps nothing on disk: every schedule here is a short interval."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import redis
from celery.beat import Scheduler
from django.conf import settings

TICK_EXPIRES_SECONDS = 60


def tick_key() -> str:
    """The Redis key that holds the Unix time of beat's last tick."""
    return f"{settings.REDIS_PREFIX}beat:tick"


class TickingScheduler(Scheduler):
    """The in-memory scheduler, which leaves the time of its last tick in Redis for ``/readyz``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._redis = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
        self._last_mark = 0.0
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; returns the seconds until the next tick."""
        wait: float = super().tick(*args, **kwargs)
        if time.monotonic() - self._last_mark >= 1:
            with contextlib.suppress(redis.RedisError):
                self._redis.set(tick_key(), time.time(), ex=TICK_EXPIRES_SECONDS)
                self._last_mark = time.monotonic()
        return wait
