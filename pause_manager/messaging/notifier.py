"""The doorbell: after a commit, tell every worker process which scopes changed. Losing one costs time, never truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

import redis
from django.db import transaction

from pause_manager import conf
from pause_manager.messaging import doorbell
from pause_manager.messaging.redis_clients import client

__all__ = ["changed", "client", "publish", "publish_on_commit"]

logger = logging.getLogger("pause_manager.messaging.notifier")


def publish(scopes: Iterable[str]) -> None:
    """Ring now. Redis away is logged; the processes poll."""
    try:
        client().publish(conf.settings().channel, json.dumps(sorted(set(scopes))))
    except redis.RedisError as error:
        logger.warning("Redis is away (%s): workers will see the change at their next poll.", error)


def publish_on_commit(*scopes: str) -> None:
    """Ring once the surrounding transaction has committed, whatever becomes of what else was to follow it."""
    transaction.on_commit(lambda: publish(scopes), robust=True)


def changed(*scopes: str) -> None:
    """Ring both bells for something else than a hold, such as a cancel, when the surrounding transaction commits."""
    doorbell.ring("changed", scopes)
    publish_on_commit(*scopes)
