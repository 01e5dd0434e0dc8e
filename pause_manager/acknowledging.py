"""A message that cannot be acknowledged must not cost the worker its hearing."""

from __future__ import annotations

from celery import Celery, Task
from celery.worker.request import Request

from pause_manager.consumption import consumption

_REQUEST = "pause_manager.acknowledging:SureRequest"


class SureRequest(Request):
    """Has the worker connect anew when its message could not be acknowledged.

    Celery logs that and goes on, but such a message counts for ever as one that the worker has in hand. After as many
    as it may have at a time (a Redis that hung while its tasks ended is enough) it asks for no further one.
    """

    def acknowledge(self) -> None:
        super().acknowledge()
        if self.acknowledged and not self.message.acknowledged:
            consumption.reconnect(self.message.channel)


def install(app: Celery) -> None:
    """Have the tasks of a worker use it, those aside that have a request of their own."""
    for task in app.tasks.values():
        if task.Request == Task.Request:
            task.Request = _REQUEST
