"""Publishes on channels of Redis what may get lost, and leaves a Redis that does not respond alone for a while."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from typing import Any

import redis

from pause_manager.messaging import redis_clients
from pause_manager.observability import metrics

BACK_OFF_SECONDS = 10.0
"""Pause after Redis did not respond, so that a hanging Redis costs its callers next to nothing."""


class Publisher:
    """One kind of messages. An outage is logged as ``lost`` says, and counted as a degraded ``layer`` if one is named.

    ``back_off_seconds`` is 0 for messages that are worth a try each, whatever became of the one before.
    """

    def __init__(
        self, logger: logging.Logger, lost: str, *, layer: str = "", back_off_seconds: float = BACK_OFF_SECONDS
    ) -> None:
        self._logger = logger
        self._lost = lost
        self._layer = layer
        self._back_off_seconds = back_off_seconds
        self.away_until = 0.0
        """Nothing is published before that time of the monotonic clock."""

    def publish(self, channel: str, messages: Iterable[Any]) -> None:
        """Publish each of ``messages`` as JSON; never raises because of Redis."""
        if time.monotonic() < self.away_until:
            return
        try:
            for message in messages:
                redis_clients.client().publish(channel, json.dumps(message))
        except redis.RedisError as error:
            self.away_until = time.monotonic() + self._back_off_seconds
            self._logger.warning("Redis is away (%s): %s.", error, self._lost)
            if self._layer:
                metrics.DEGRADED.add(layer=self._layer)
