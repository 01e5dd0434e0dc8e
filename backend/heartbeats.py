"""Heartbeats in Redis, for ``/readyz``: when beat last ticked, and when a control worker last ran its task."""

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

_RECORDED_TASK = "automation.reconcile"
"""The control task that runs most often: each run of it is a heartbeat."""


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeat, sent from ``host``: ``age`` seconds ago by Redis's clock, ``at`` (Unix time) by its own."""

    host: str
    at: float
    age: float


def key(who: str) -> str:
    """The Redis key of the last heartbeat. Earlier releases use the same one, so that they can run beside this one."""
    return f"{settings.REDIS_PREFIX}{who}:tick"


def record(who: str) -> bool:
    """Record a heartbeat; False if Redis is unavailable."""
    with contextlib.suppress(redis.RedisError):
        value = orjson.dumps({"host": host_name(), "at": time.time()})
        _client(settings.REDIS_URL).set(key(who), value, ex=EXPIRES_SECONDS)
        return True
    return False


def last(who: str) -> Heartbeat | None:
    """The last heartbeat; None if it has expired or never came. Raises ``redis.RedisError``."""
    with _client(settings.REDIS_URL).pipeline() as both:
        both.get(key(who))
        both.pttl(key(who))
        value, left = both.execute()
    if value is None or left < 0:
        return None
    found = orjson.loads(value)
    # By Redis's clock, since hosts may disagree: the key's lifetime minus what is left of it.
    age = EXPIRES_SECONDS - left / 1000
    # Earlier releases stored the bare time.
    return Heartbeat(found["host"], found["at"], age) if isinstance(found, dict) else Heartbeat(who, float(found), age)


def age(who: str) -> float | None:
    """Seconds since the last heartbeat; None if it has expired or never came. Raises ``redis.RedisError``."""
    heartbeat = last(who)
    return None if heartbeat is None else heartbeat.age


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return bounded(url, 1)


@signals.worker_ready.connect
def _on_ready(sender: Any = None, **_: Any) -> None:
    if settings.PAUSE_MANAGER.get("control_queue", CONTROL) in sender.app.amqp.queues.consume_from:
        record(CONTROL)


@signals.task_postrun.connect
def _on_ran(task: Any = None, **_: Any) -> None:
    if task is not None and task.name == _RECORDED_TASK:
        record(CONTROL)
