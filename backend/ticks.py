"""Signs of life in Redis, for ``/readyz``: when beat last ticked, and when a control worker last did its work."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import redis
from celery import signals
from django.conf import settings

from pause_manager.messaging.redis_clients import bounded
from pause_manager.probes.processes import host_name

BEAT, CONTROL = "beat", "control"
EXPIRES_SECONDS = 600

_SIGN_OF_LIFE = "automation.reconcile"
"""The control task that is asked for most often."""


@dataclass(frozen=True)
class Tick:
    """The last sign of life of ``host``: ``age`` seconds ago by Redis's clock, and ``at`` (Unix time) by its own."""

    host: str
    at: float
    age: float


def key(who: str) -> str:
    """The Redis key that holds the last sign of life."""
    return f"{settings.REDIS_PREFIX}{who}:tick"


def mark(who: str) -> bool:
    """Leave a sign of life; False if Redis is away."""
    with contextlib.suppress(redis.RedisError):
        told = orjson.dumps({"host": host_name(), "at": time.time()})
        _client(settings.REDIS_URL).set(key(who), told, ex=EXPIRES_SECONDS)
        return True
    return False


def last(who: str) -> Tick | None:
    """The last sign of life; None if there was none lately. Raises ``redis.RedisError``."""
    with _client(settings.REDIS_URL).pipeline() as both:
        both.get(key(who))
        both.pttl(key(who))
        told, left = both.execute()
    if told is None or left < 0:
        return None
    found = orjson.loads(told)
    # Redis's clock, for those of hosts may differ: what is left of the time that it was given.
    age = EXPIRES_SECONDS - left / 1000
    # A release before this one left the bare time.
    return Tick(found["host"], found["at"], age) if isinstance(found, dict) else Tick(who, float(found), age)


def age(who: str) -> float | None:
    """Seconds since the last sign of life; None if there was none lately. Raises ``redis.RedisError``."""
    tick = last(who)
    return None if tick is None else tick.age


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return bounded(url, 1)


@signals.worker_ready.connect
def _on_ready(sender: Any = None, **_: Any) -> None:
    if settings.PAUSE_MANAGER.get("control_queue", CONTROL) in sender.app.amqp.queues.consume_from:
        mark(CONTROL)


@signals.task_postrun.connect
def _on_ran(task: Any = None, **_: Any) -> None:
    if task is not None and task.name == _SIGN_OF_LIFE:
        mark(CONTROL)
