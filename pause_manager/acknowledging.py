"""A message that cannot be acknowledged must not cost the worker its hearing."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.utils.log import get_logger
from celery.worker.request import Request

from pause_manager.consumption import consumption

logger = get_logger("celery.worker.request")
_REQUEST = "pause_manager.acknowledging:SureRequest"


class SureRequest(Request):
    """Has the worker connect anew when its message could not be acknowledged.

    Celery logs that and goes on, but such a message counts for ever as one that the worker has in hand. After as many
    as it may have at a time (a Redis that hung while its tasks ended is enough) it asks for no further one.
    """

    def acknowledge(self) -> None:
        if not self.acknowledged:
            # celery-types knows neither.
            acknowledge, errors = self._on_ack, self._connection_errors  # type: ignore[attr-defined]
            acknowledge(Complaints(self.message.channel), errors)
            self.acknowledged = True


class Complaints:
    """Celery's logger, to whom alone a failure is told: the acknowledgement is made later, by the worker's loop."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def critical(self, *args: Any, **options: Any) -> None:
        logger.critical(*args, **options)
        consumption.reconnect(self.channel)


def install(app: Celery) -> None:
    """Have the tasks of a worker use it, those aside that have a request of their own."""
    for task in app.tasks.values():
        if task.Request == Task.Request:
            task.Request = _REQUEST
