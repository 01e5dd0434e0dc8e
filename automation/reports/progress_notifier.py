"""The second doorbell: after a commit, tell whoever shows runs which of them moved. Losing one costs time, never truth.

Progress rings at most once a second per run and process; every event of the audit trail rings when it is committed.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable

import redis
from django.db import transaction
from django.dispatch import receiver

from automation import conf
from pause_manager.messaging import notifier
from pause_manager.observability import metrics
from pause_manager.signals import event_recorded

logger = logging.getLogger("automation.reports.progress_notifier")

INTERVAL_SECONDS = 1.0
BACK_OFF_SECONDS = 10.0
"""Pause after Redis did not answer, so that a hanging one costs a worker next to nothing."""
MAX_REMEMBERED = 1_000

_due: dict[str, float] = {}
_away_until = 0.0


def publish_progress(scope: str) -> None:
    """Ring for progress of ``scope``, unless this process did within the last second. One look at the clock."""
    now = time.monotonic()
    if now < _due.get(scope, 0.0):
        return
    if len(_due) >= MAX_REMEMBERED:
        _due.clear()
    _due[scope] = now + INTERVAL_SECONDS
    publish([scope])


def publish(scopes: Iterable[str]) -> None:
    """Ring now. Redis away is logged and left alone for a while; pages read the database meanwhile."""
    global _away_until
    if time.monotonic() < _away_until:
        return
    try:
        notifier.client().publish(conf.settings().progress_channel, json.dumps(sorted(set(scopes))))
    except redis.RedisError as error:
        _away_until = time.monotonic() + BACK_OFF_SECONDS
        logger.warning("Redis is away (%s): pages will see the change at their next look.", error)
        metrics.DEGRADED.add(layer="progress")


@receiver(event_recorded)
def _tell(action: str, scopes: list[str], **_: object) -> None:
    # Holds ring the control channel, which the pages hear too.
    if not action.startswith("hold_"):
        transaction.on_commit(lambda: publish(scopes), robust=True)
