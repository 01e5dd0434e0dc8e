"""The doorbell: after a commit, tell every worker process which scopes changed. Losing one costs time, never truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import lru_cache

import redis
from django.db import transaction

from pause_manager import conf

logger = logging.getLogger("pause_manager.notice")


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    """The Redis client of this process, with short time-outs: a caller never hangs on the doorbell."""
    settings = conf.settings()
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=settings.redis_timeout_seconds,
        socket_connect_timeout=settings.redis_timeout_seconds,
    )


def publish(scopes: Iterable[str]) -> None:
    """Ring now. Redis away is logged; the processes poll."""
    try:
        client().publish(conf.settings().channel, json.dumps(sorted(set(scopes))))
    except redis.RedisError as error:
        logger.warning("Redis is away (%s): workers will see the change at their next poll.", error)


def publish_on_commit(*scopes: str) -> None:
    """Ring once the surrounding transaction has committed."""
    transaction.on_commit(lambda: publish(scopes))
