"""Which queues this worker takes messages from: stopped and started again from any thread, never the control queue.

There can be several reasons to stop a queue at a time; it is consumed when none is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from pause_manager import conf

logger = logging.getLogger("pause_manager.consumption")

NODE = "node"
"""The reason of who names none: the node has no room."""


class Consumption:
    """The queues of one worker. What is wanted is kept, and made true again after every lost connection.

    A stopped queue is struck from the list that each new consumer is made from, so that none takes a message of it;
    the consumer that is at work is touched only by the worker's own loop, to which each change is handed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Any = None
        self._reasons: dict[str, frozenset[str] | None] = {}
        """By reason the queues that it stops; ``None`` for all."""
        self._struck: set[str] = set()
        """Queues that we have stopped and not yet started again; what others have stopped is theirs."""
        self._changes = self._applied = 0

    def attach(self, worker: Any) -> None:
        """Serve this worker (Celery's ``WorkController``)."""
        with self._lock:
            self._worker = worker
            self._reasons.clear()
            self._struck.clear()
            self._changes = self._applied = 0

    @property
    def queues(self) -> frozenset[str]:
        """The queues that may be stopped: those this worker consumes or would, without the control queue."""
        if self._worker is None:
            return frozenset()
        return frozenset({*self._worker.app.amqp.queues.consume_from, *self._struck} - {conf.settings().control_queue})

    @property
    def stopped(self) -> frozenset[str]:
        """The queues that are, or are about to be, stopped."""
        queues, reasons = self.queues, list(self._reasons.values())
        return queues if None in reasons else queues.intersection(*[frozenset().union(*filter(None, reasons))])

    @property
    def is_settled(self) -> bool:
        """Whether what is wanted is so: nothing comes from a stopped queue any more."""
        return self._applied == self._changes

    def stop(self, queues: Iterable[str] | None = None, *, because: str = NODE) -> frozenset[str]:
        """Take no more messages from ``queues`` (all); answers those that were not stopped before."""
        added = None if queues is None else frozenset(queues)
        with self._lock:
            known = self._reasons.get(because, frozenset())
            return self._want(because, None if added is None or known is None else known | added)

    def start(self, queues: Iterable[str] | None = None, *, because: str = NODE) -> frozenset[str]:
        """Take back that reason to stop ``queues`` (all); answers those that no other reason stops."""
        with self._lock:
            known = self._reasons.get(because, frozenset())
            rest = self.queues if known is None else known
            return self._want(because, frozenset() if queues is None else rest - frozenset(queues))

    def hold(self, queues: Iterable[str] | None, *, because: str) -> frozenset[str]:
        """Stop exactly ``queues`` (``None``: all) for that reason; answers those that stop or start by it."""
        with self._lock:
            return self._want(because, None if queues is None else frozenset(queues))

    def reconnect(self, channel: Any) -> None:
        """Have the worker's loop connect to the broker anew, if ``channel`` is still the one it consumes from."""
        consumer = getattr(self._worker, "consumer", None)
        if consumer is not None:
            consumer.call_soon(_lose_connection, consumer, channel)

    def enforce(self) -> None:
        """Hand what is wanted and not so to the worker's loop; called with each tick, it heals what was lost."""
        consumer = getattr(self._worker, "consumer", None)
        if self._struck and consumer is not None:
            consumer.call_soon(self._apply, consumer)

    def _want(self, because: str, queues: frozenset[str] | None) -> frozenset[str]:
        """Under the lock: exchange one reason's queues; the rest follows."""
        before = self.stopped
        self._reasons[because] = queues
        changed = self.stopped ^ before
        if self._worker is None or not changed:
            return changed
        self._changes += 1
        selection = self._worker.app.amqp.queues
        for queue in self.stopped - before:
            self._struck.add(queue)
            selection.deselect(queue)
        consumer = getattr(self._worker, "consumer", None)
        if consumer is None:  # not made yet: it will be made from the selection
            self._reselect(before - self.stopped)
            self._applied = self._changes
        else:
            consumer.call_soon(self._apply, consumer)
        return changed

    def _reselect(self, queues: Iterable[str]) -> None:
        selection = self._worker.app.amqp.queues
        for queue in queues:
            selection.select_add(selection[queue])
            self._struck.discard(queue)

    def _apply(self, consumer: Any) -> None:
        """In the worker's loop. A broker that is away now is tried again with the next tick."""
        try:
            with self._lock:
                changes, stopped, struck = self._changes, self.stopped, set(self._struck)
            for queue in struck:
                tasks = consumer.task_consumer
                if tasks is None:
                    return
                is_consuming = bool(tasks.consuming_from(queue))
                if queue in stopped:
                    if is_consuming:
                        consumer.cancel_task_queue(queue)
                    continue
                if not is_consuming:
                    consumer.add_task_queue(queue)
                with self._lock:
                    if queue not in self.stopped:
                        self._struck.discard(queue)
            with self._lock:
                self._applied = max(self._applied, changes)
        except Exception as error:
            logger.warning("Cannot change the consumed queues yet: %s.", error)


def _lose_connection(consumer: Any, channel: Any) -> None:
    """In the worker's loop, which answers such an error with a new connection."""
    if consumer.task_consumer is not None and consumer.task_consumer.channel is channel:
        raise ConnectionError("Cannot acknowledge a message: the broker is away.")


consumption = Consumption()
"""The one of this process."""
