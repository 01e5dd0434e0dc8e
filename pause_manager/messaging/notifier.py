"""The doorbell: after a commit, tell every worker process which scopes changed. Losing one costs time, never truth."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import transaction

from pause_manager import conf
from pause_manager.messaging import pg_notifications
from pause_manager.messaging.publisher import Publisher
from pause_manager.messaging.redis_clients import client

__all__ = ["changed", "client", "publish", "publish_on_commit"]

logger = logging.getLogger("pause_manager.messaging.notifier")

_publisher = Publisher(logger, "workers will see the change at their next poll", back_off_seconds=0.0)


def publish(scopes: Iterable[str]) -> None:
    """Notification now. Redis away is logged; the processes poll."""
    _publisher.publish(conf.settings().channel, [sorted(set(scopes))])


def publish_on_commit(*scopes: str) -> None:
    """Notification once the surrounding transaction has committed, whatever becomes of what else was to follow it."""
    transaction.on_commit(lambda: publish(scopes), robust=True)


def changed(*scopes: str) -> None:
    """Notify every listener of a change other than a hold, such as a cancel, when the transaction commits."""
    pg_notifications.notify("changed", scopes)
    publish_on_commit(*scopes)
