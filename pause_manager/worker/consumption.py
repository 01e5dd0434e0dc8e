"""Which queues this worker takes messages from: stopped and started again from any thread, never the control queue.

There can be several reasons to stop a queue at a time; it is consumed when none is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery.bootsteps import RUN  # type: ignore[attr-defined]
from vine import promise

from pause_manager import conf

logger = logging.getLogger("pause_manager.worker.consumption")

NODE = "node"
"""The reason of who names none: the node has no room."""
HOLD = "hold"
"""The reason of holds. Who gives it has read them: a queue that an operator added waits for that."""


class Consumption:
    """The queues of one worker. What it is to serve is kept apart from what is stopped, and both from what is so.

    It serves the queues it was started with, those that operators add, and no longer those that they cancel. What is
    wanted is written at once into the list that each new consumer is made from; the running consumer is touched only
    in the worker's own loop, which compares it with what is wanted before it consumes from a new connection, after
    each change and with each tick, and makes it so.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._worker: Any = None
        self._consumer: Any = None
        self._in_loop: promise = promise(self._look)
        """One object: however often it is asked for, the loop has it once."""
        self._served: set[str] = set()
        self._unread: set[str] = set()
        """Added by operators since holds were read last."""
        self._selected: set[str] = set()
        """What we last left in the worker's list; where it differs, somebody else has changed it."""
        self._reasons: dict[str, frozenset[str] | None] = {}
        """By reason the queues that it stops; ``None`` for all."""
        self._revision = self._seen = 0
        """Of what is wanted, and of what the loop last made so."""
        self._lost_channel: Any = None

    def attach(self, worker: Any) -> None:
        """Serve this worker (Celery's ``WorkController``), before it has connected."""
        with self._lock:
            self._worker = worker
            self._reasons.clear()
            self._unread.clear()
            self._revision = self._seen = 0
            self._lost_channel = None
            selection = worker.app.amqp.queues
            self._served = set(selection.consume_from)
            # Without -Q the list may be "all that are known", which grows when a task is sent to a new queue.
            selection.select(list(self._served))
            self._selected = set(self._served)
            if self._consumer is not (consumer := getattr(worker, "consumer", None)):
                self._consumer = consumer
                self._stand_before(consumer)

    @property
    def queues(self) -> frozenset[str]:
        """The queues that may be stopped: those this worker is to serve, without the control queue."""
        with self._lock:
            return frozenset(self._served - {conf.settings().control_queue})

    @property
    def stopped(self) -> frozenset[str]:
        """The queues that are, or are about to be, stopped."""
        with self._lock:
            reasons = self._reasons.values()
            if None in reasons:
                return self.queues
            return self.queues & frozenset(self._unread).union(*filter(None, reasons))

    @property
    def is_settled(self) -> bool:
        """Whether nothing comes from a stopped queue any more, and all others are consumed.

        The worker's loop has seen it so since the last change. Or it is not connected: then nothing comes at all, and
        what it will consume from is decided again when it connects.
        """
        with self._lock:
            return self._seen == self._revision or getattr(self._consumer, "connection", None) is None

    def stop(self, queues: Iterable[str] | None = None, *, reason: str = NODE) -> frozenset[str]:
        """Take no more messages from ``queues`` (all); answers those that were not stopped before."""
        added = None if queues is None else frozenset(queues)
        with self._lock:
            known = self._reasons.get(reason, frozenset())
            return self.stop_exactly(None if added is None or known is None else known | added, reason=reason)

    def start(self, queues: Iterable[str] | None = None, *, reason: str = NODE) -> frozenset[str]:
        """Take back that reason to stop ``queues`` (all); answers those that no other reason stops."""
        with self._lock:
            known = self._reasons.get(reason, frozenset())
            rest = self.queues if known is None else known
            return self.stop_exactly(
                frozenset() if queues is None else rest - frozenset(queues), reason=reason, among=()
            )

    def stop_exactly(
        self, queues: Iterable[str] | None, *, reason: str, among: Iterable[str] | None = None
    ) -> frozenset[str]:
        """Stop exactly ``queues`` (``None``: all) for that reason; answers those that stop or start by it.

        ``among`` are the queues of which holds have been read (``None``: all). Others that an operator has added
        meanwhile stay stopped until they have been, too.
        """
        with self._lock:
            before = self.stopped
            self._reasons[reason] = None if queues is None else frozenset(queues)
            if reason == HOLD:
                self._unread -= set(self._unread if among is None else among)
            if changed := self.stopped ^ before:
                self._changed()
            return changed

    def reconnect(self, channel: Any) -> None:
        """Have the worker's loop connect to the broker again, if ``channel`` is still the one it consumes from."""
        self._lost_channel = channel
        self.enforce()

    def enforce(self) -> None:
        """Have the worker's loop compare what is with what is wanted; called with each tick."""
        # A loop without a hub compares each time it comes round.
        if (hub := getattr(self._consumer, "hub", None)) is not None:
            hub.call_soon(self._in_loop)

    def _changed(self) -> None:
        """Under the lock: what is wanted is no longer what it was."""
        self._revision += 1
        self._select()
        self.enforce()

    def _serve(self, queue: str) -> None:
        self._served.add(queue)
        if queue != conf.settings().control_queue:
            self._unread.add(queue)

    def _select(self) -> set[str]:
        """Under the lock: have the next consumer made from what is wanted, and answer it.

        What somebody else has put into the list, or struck from it, counts as an operator's doing.
        """
        if self._worker is None:
            return set()
        selection = self._worker.app.amqp.queues
        chosen = set(selection.consume_from)
        if chosen != self._selected:
            for queue in chosen - self._selected:
                self._serve(queue)
            for queue in self._selected - chosen:
                self._served.discard(queue)
            self._revision += 1
        wanted = self._served - self.stopped
        for queue in wanted - chosen:
            selection.select_add(selection[queue])
        for queue in chosen - wanted:
            selection.deselect(queue)
        self._selected = wanted
        return wanted

    def _stand_before(self, consumer: Any) -> None:
        """Hear of what operators add and cancel, of each new connection, and of each turn of a loop without a hub."""
        if consumer is None:
            return
        loop: Callable[..., Any] = consumer.loop
        perform: Callable[[], Any] = consumer.perform_pending_operations

        def looked_over(*args: Any, **options: Any) -> Any:
            self._make_so(is_new=True)
            return loop(*args, **options)

        def performed() -> None:
            perform()
            if not consumer.hub:
                self._look()

        consumer.loop, consumer.perform_pending_operations = looked_over, performed
        consumer.add_task_queue, consumer.cancel_task_queue = self._add, self._cancel

    def _add(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        **options: Any,
    ) -> None:
        """Stands for the consumer's ``add_task_queue``, which consumes at once."""
        with self._lock:
            selection = self._worker.app.amqp.queues
            if queue not in selection:
                selection.add(
                    queue,
                    exchange=queue if exchange is None else exchange,
                    exchange_type=exchange_type or "direct",
                    routing_key=routing_key,
                    **options,
                )
            if (name := selection[queue].name) not in self._served:
                self._serve(name)
                self._changed()

    def _cancel(self, queue: str) -> None:
        """Stands for the consumer's ``cancel_task_queue``: it stays cancelled, whatever is released."""
        with self._lock:
            alias = self._worker.app.amqp.queues.aliases.get(queue)
            name = queue if alias is None else alias.name
            if name in self._served:
                self._served.discard(name)
                self._unread.discard(name)
                self._changed()

    def _look(self) -> None:
        """In the worker's loop, at each tick. What it raises has the worker connect again."""
        consumer = self._consumer
        if consumer is None or consumer.blueprint.state != RUN or consumer.task_consumer is None:
            return
        lost, self._lost_channel = self._lost_channel, None
        if lost is not None and consumer.task_consumer.channel is lost:
            raise ConnectionError("Cannot acknowledge a message: the broker is away.")
        try:
            self._make_so(is_new=False)
        except (*consumer.connection_errors, ConnectionError):
            raise
        except Exception as error:
            logger.warning("Cannot change the consumed queues yet: %s.", error)

    def _make_so(self, *, is_new: bool) -> None:
        """In the worker's loop. A new consumer is not told to consume: the loop is about to."""
        tasks = self._consumer.task_consumer
        with self._lock:
            wanted = self._select()
            revision, selection = self._revision, self._worker.app.amqp.queues
            queues = {name: selection[name] for name in sorted(wanted)}
        known = {queue.name for queue in tasks.queues}
        for name in known - queues.keys():
            logger.info("Canceling queue %s", name)
            tasks.cancel_by_queue(name)
        missing = [name for name in queues if name not in known or not (is_new or tasks.consuming_from(name))]
        for name in missing:
            tasks.add_queue(queues[name])
        if missing and not is_new:
            tasks.consume()
            logger.info("Started consuming from %s", ", ".join(missing))
        with self._lock:
            self._seen = revision


consumption = Consumption()
"""The one of this process."""
