"""Publishes, after a commit, which runs have changed, for pages that show them. A lost message only delays them.

Progress is published at most once per second, run and process; every audit event is published when committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from django.db import transaction
from django.dispatch import receiver

from automation import conf
from pause_manager.messaging.publisher import Publisher
from pause_manager.signals import event_recorded

logger = logging.getLogger("automation.reports.progress_notifier")

INTERVAL_SECONDS = 1.0
MAX_REMEMBERED = 1_000

publisher = Publisher(logger, "pages will show the change at their next poll", layer="progress")

_due: dict[str, float] = {}


def publish_progress(scope: str) -> None:
    """Publish progress of ``scope``, unless this process did within the last second."""
    now = time.monotonic()
    if now < _due.get(scope, 0.0):
        return
    if len(_due) >= MAX_REMEMBERED:
        _due.clear()
    _due[scope] = now + INTERVAL_SECONDS
    publish([scope])


def publish(scopes: Iterable[str]) -> None:
    """Publish now. If Redis is away, log it and pause; pages poll the database meanwhile."""
    publisher.publish(conf.settings().progress_channel, [sorted(set(scopes))])


@receiver(event_recorded)
def _on_event(action: str, scopes: list[str], **_: object) -> None:
    # Changes of holds are published on the control channel, to which pages listen, too.
    if not action.startswith("hold_"):
        transaction.on_commit(lambda: publish(scopes), robust=True)
