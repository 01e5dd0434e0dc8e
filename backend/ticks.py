"""Signs of life in Redis, for ``/readyz``: when beat last ticked, and when a control worker last did its work."""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache
from typing import Any

import redis
from celery import signals
from django.conf import settings

BEAT, CONTROL = "beat", "control"
EXPIRES_SECONDS = 60

_SIGN_OF_LIFE = "automation.reconcile"
"""The control task that is asked for most often."""


def key(who: str) -> str:
    """The Redis key that holds the Unix time of the last sign of life."""
    return f"{settings.REDIS_PREFIX}{who}:tick"


def mark(who: str) -> bool:
    """Leave a sign of life; False if Redis is away."""
    with contextlib.suppress(redis.RedisError):
        _client(settings.REDIS_URL).set(key(who), time.time(), ex=EXPIRES_SECONDS)
        return True
    return False


def age(who: str) -> float | None:
    """Seconds since the last sign of life; None if there was none lately. Raises ``redis.RedisError``."""
    last = _client(settings.REDIS_URL).get(key(who))
    return None if last is None else time.time() - float(last)


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)


@signals.worker_ready.connect
def _on_ready(sender: Any = None, **_: Any) -> None:
    if settings.PAUSE_MANAGER.get("control_queue", CONTROL) in sender.app.amqp.queues.consume_from:
        mark(CONTROL)


@signals.task_postrun.connect
def _on_ran(task: Any = None, **_: Any) -> None:
    if task is not None and task.name == _SIGN_OF_LIFE:
        mark(CONTROL)
