"""The consumer's step: it learns which queue a message comes from, and what becomes of messages that no task takes.

Celery makes the consumer's connection and strategies again whenever it has lost the broker, and this step with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

from celery import bootsteps
from celery.exceptions import InvalidTaskError
from celery.utils.imports import symbol_by_name
from kombu.exceptions import ContentDisallowed, DecodeError

from pause_manager import conf, pause_queue
from pause_manager.messaging.headers import ENTRY, parse_entry
from pause_manager.messaging.message import Delivery
from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import confirmations, guard_tasks_of_any_class, is_pausable, parked_messages
from pause_manager.worker.decisions import decisions
from pause_manager.worker.event_loop import event_loop
from pause_manager.worker.reliable_ack import AckFailureLogger
from pause_manager.worker.request import PausableRequest, is_known, know_tags, known_as_revoked, queue_of_message

logger = logging.getLogger("pause_manager.worker.delivery_step")

Strategy = Callable[..., Any]


class ParkedDeliveryStep(bootsteps.StartStopStep):
    """Stands before the strategies of all tasks."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        decisions.returns.lost_connection()
        _tell_queues(consumer)
        guard_tasks_of_any_class(consumer.app)
        if getattr(consumer.on_unknown_task, "func", None) is not _on_unknown_task:
            consumer.on_unknown_task = partial(_on_unknown_task, consumer, consumer.on_unknown_task)
        for name, task in consumer.app.tasks.items():
            consumer.strategies[name] = partial(_receive, consumer, task, consumer.strategies[name])

    def shutdown(self, consumer: Any) -> None:
        decisions.returns.shut_down()

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        event_loop.open(hub)


def _tell_queues(consumer: Any) -> None:
    """See that each message says which queue it was taken from: its address may name another, or several."""
    if consumer.task_consumer is not None:
        know_tags(dict(getattr(consumer.task_consumer, "_active_tags", {})))
    transport = getattr(consumer.connection, "transport", None)
    deliver = getattr(transport, "_deliver", None)
    if transport is not None and deliver is not None and getattr(deliver, "func", None) is not _deliver:
        transport._deliver = partial(_deliver, deliver)


def _deliver(deliver: Callable[[Any, str], Any], message: Any, queue: str) -> Any:
    """Of kombu's transports without AMQP: the raw message, and the queue that it was read from."""
    try:
        message["properties"]["delivery_info"]["queue"] = queue
    except (KeyError, TypeError):
        logger.debug("A message of %s has no address.", queue)
    return deliver(message, queue)


def _receive(consumer: Any, task: Any, strategy: Strategy, message: Any, *rest: Any, **named: Any) -> Any:
    """What Celery calls with each message; ``rest`` is body, ack, reject and callbacks."""
    tag = (message.delivery_info or {}).get("consumer_tag")
    if tag is not None and not is_known(tag) and consumer.task_consumer is not None:
        know_tags(consumer.task_consumer._active_tags)
    header = (message.headers or {}).get(ENTRY)
    if header is None:
        return strategy(message, *rest, **named)
    entry = parse_entry(header)
    if entry is not None and not _has_our_request(consumer.app, task):
        return _take_up(consumer, entry, message, partial(strategy, message, *rest, **named))
    try:
        return strategy(message, *rest, **named)
    except (InvalidTaskError, ContentDisallowed, DecodeError) as error:
        set_aside(header, PauseQueueEntry.Problem.UNREADABLE, f"A worker refuses its content: {error}")
        raise


def _on_unknown_task(
    consumer: Any, as_celery: Callable[..., Any], body: Any, message: Any, error: Exception, *rest: Any
) -> Any:
    """Celery throws such a message away and lets its task fail. Ours waits: a deploy has renamed it, or is not over."""
    app, headers = consumer.app, message.headers or {}
    queue = queue_of_message(app, message)
    is_ours = ENTRY in headers or (is_pausable(app.Task) and "task" in headers)
    if queue is None or queue == conf.settings().control_queue or not is_ours:
        return as_celery(body, message, error, *rest)
    name = headers["task"]
    logger.error("Received the unregistered task %s: its message waits in the pause queue.", name)
    reason = f"{consumer.hostname}, which received it, knows no task {name}."
    entry = parse_entry(headers.get(ENTRY))
    delivery = Delivery.of_unknown(app, message, queue, consumer.hostname)

    def keep() -> Callable[[], Any]:
        if entry is not None:
            pause_queue.set_aside(*entry, PauseQueueEntry.Problem.UNKNOWN_TASK, reason)
        else:
            parked_messages.park_unknown(delivery, reason)
        return partial(message.ack_log_error, AckFailureLogger(message.channel), consumer.connection_errors)

    decisions.do(keep)
    return None


def _has_our_request(app: Any, task: Any) -> bool:
    try:
        return issubclass(symbol_by_name(task.Request), PausableRequest)
    except (TypeError, ImportError, AttributeError):
        return False


def _take_up(consumer: Any, entry: tuple[int, int], message: Any, go_on: Callable[[], Any]) -> None:
    """The message of a task with a request of its own: its entry is answered before Celery sees it."""
    # What the task sends itself, such as a retry, is no message of the entry.
    message.headers = {name: value for name, value in message.headers.items() if name != ENTRY}
    key = message.delivery_tag if isinstance(message.delivery_tag, str) else ""
    turn, on = uuid4(), consumer.connection
    is_redelivered = bool((message.delivery_info or {}).get("redelivered"))

    def answer() -> Callable[[], Any] | None:
        if confirmations.is_revoked(entry):
            confirmations.discard(entry)
            return partial(_as_revoked, str(message.headers.get("id")), go_on)
        is_taken_up = confirmations.confirm_once(entry, key, turn, is_redelivered=is_redelivered)
        if is_taken_up or confirmations.came_back_dead(entry, message.headers):
            # Of a connection that was lost it is delivered again.
            return go_on if consumer.connection is on else None
        logger.info("A message of entry %d.%d was delivered again: it has been taken up.", *entry)
        return partial(message.ack_log_error, AckFailureLogger(message.channel), consumer.connection_errors)

    decisions.do(answer)


def _as_revoked(task_id: str, go_on: Callable[[], Any]) -> None:
    with known_as_revoked(task_id):
        go_on()


def set_aside(header: Any, problem: str, reason: str) -> None:
    """A message of an entry that this worker cannot run waits again, where people see it and why."""
    entry = parse_entry(header)
    if entry is not None:
        decisions.do(partial(_aside, entry, problem, reason))


def _aside(entry: tuple[int, int], problem: str, reason: str) -> None:
    pause_queue.set_aside(*entry, problem, reason)
