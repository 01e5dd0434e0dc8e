"""Which queues this worker takes messages from: stopped and started again from any thread, never the control queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from pause_manager import conf

logger = logging.getLogger("pause_manager.consumption")


class Consumption:
    """The queues of one worker. What is wanted is kept, and made true again after every lost connection.

    The consumer is touched only by the worker's own loop, to which each change is handed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Any = None
        self._wanted: dict[str, bool] = {}

    def attach(self, worker: Any) -> None:
        """Serve this worker (Celery's ``WorkController``)."""
        self._worker = worker
        self._wanted.clear()

    @property
    def queues(self) -> frozenset[str]:
        """The queues that may be stopped: those this worker consumes or would, without the control queue."""
        if self._worker is None:
            return frozenset()
        names = {*self._worker.app.amqp.queues.consume_from, *self._wanted}
        return frozenset(names - {conf.settings().control_queue})

    @property
    def stopped(self) -> frozenset[str]:
        """The queues that are, or are about to be, stopped."""
        return frozenset(queue for queue, is_wanted in self._wanted.items() if not is_wanted)

    def stop(self, queues: Iterable[str] | None = None) -> frozenset[str]:
        """Take no more messages from ``queues`` (all); answers those that were not stopped before."""
        return self._want(queues, False)

    def start(self, queues: Iterable[str] | None = None) -> frozenset[str]:
        """Take messages again from ``queues`` (all that are stopped); answers those that were stopped."""
        return self._want(queues, True)

    def enforce(self) -> None:
        """Hand what is wanted and not so to the worker's loop; called with each tick, it heals what was lost."""
        consumer = getattr(self._worker, "consumer", None)
        if self._wanted and consumer is not None:
            consumer.call_soon(self._apply, consumer)

    def _want(self, queues: Iterable[str] | None, is_wanted: bool) -> frozenset[str]:
        with self._lock:
            candidates = self.queues if not is_wanted else self.stopped
            chosen = candidates if queues is None else candidates & frozenset(queues)
            changed = frozenset(queue for queue in chosen if (queue in self.stopped) is is_wanted)
            self._wanted.update(dict.fromkeys(changed, is_wanted))
        self.enforce()
        return changed

    def _apply(self, consumer: Any) -> None:
        """In the worker's loop. A broker that is away now is tried again with the next tick."""
        try:
            with self._lock:
                wanted = dict(self._wanted)
            for queue, is_wanted in wanted.items():
                tasks = consumer.task_consumer
                if tasks is None:
                    return
                is_consuming = bool(tasks.consuming_from(queue))
                if is_consuming and not is_wanted:
                    consumer.cancel_task_queue(queue)
                elif not is_consuming and is_wanted:
                    consumer.add_task_queue(queue)
                with self._lock:
                    if is_wanted and self._wanted.get(queue):
                        del self._wanted[queue]
        except Exception as error:
            logger.warning("Cannot change the consumed queues yet: %s.", error)


consumption = Consumption()
"""The one of this process."""
