"""Messages sent on from the pause queue for tasks of any kind: each is taken up once, and dropped if it comes twice.

A :class:`~pause_manager.pausable.PausableTask` answers its entry itself, when it starts. For every other task the
worker does, before Celery's own strategy sees the message.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from celery import bootsteps
from django.db import Error as DatabaseError
from django.db import connection

from pause_manager import kept
from pause_manager.acknowledging import Complaints
from pause_manager.delivery import ENTRY, parsed

logger = logging.getLogger("pause_manager.taking_up")

RETRY_SECONDS = 1.0

Strategy = Callable[..., Any]


class TakingUp(bootsteps.StartStopStep):
    """Stands before the strategies of the tasks that are not pausable. Messages that never waited pass untouched."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Celery builds the strategies anew with each connection."""
        # Not above: an app that uses no pausable tasks has not imported their module, and is told so by the checks.
        from pause_manager.pausable import PausableTask

        for name, task in consumer.app.tasks.items():
            if not (isinstance(task, PausableTask) and task.pausable):
                consumer.strategies[name] = partial(self.receive, consumer, consumer.strategies[name])

    def receive(self, consumer: Any, strategy: Strategy, message: Any, *rest: Any, **named: Any) -> Any:
        """What Celery calls with each message of the task; ``rest`` is body, ack, reject and callbacks."""
        header = (message.headers or {}).get(ENTRY)
        if header is None:
            return strategy(message, *rest, **named)
        # What the task sends itself, such as a retry, is no message of the entry.
        message.headers = {name: value for name, value in message.headers.items() if name != ENTRY}
        go_on = partial(strategy, message, *rest, **named)
        # The worker's loop must not wait for the database. No more threads than messages in the worker's hand.
        Thread(target=self._take_up, args=(consumer, header, message, go_on), daemon=True).start()
        return None

    def _take_up(self, consumer: Any, header: str, message: Any, go_on: Callable[[], Any]) -> None:
        key = message.delivery_tag if isinstance(message.delivery_tag, str) else ""
        is_redelivered = bool((message.delivery_info or {}).get("redelivered"))
        entry = parsed(header)
        while True:
            try:
                is_ours = entry is None or kept.take_up(entry, key, is_redelivered=is_redelivered)
                break
            except DatabaseError as error:
                # The message is not acknowledged: should this worker end meanwhile, the broker gives it to another.
                logger.warning("The database is away (%s): a message of entry %s waits.", error, header)
                time.sleep(RETRY_SECONDS)
            finally:
                # The worker forks new children: they must not inherit an open connection.
                connection.close()
        if is_ours:
            consumer.call_soon(go_on)
        else:
            logger.info("A message of entry %s was delivered again: it has been taken up.", header)
            consumer.call_soon(message.ack_log_error, Complaints(message.channel), consumer.connection_errors)
