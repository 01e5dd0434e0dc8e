"""What is asked of the broker besides Celery's own sending: how long a queue is, and messages sent as they came."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from celery import current_app
from kombu.exceptions import ChannelError, OperationalError

logger = logging.getLogger("pause_manager.broker")

BROKER_ERRORS = (OperationalError, ChannelError, ConnectionError, TimeoutError, OSError)

_KEPT_PROPERTIES = ("priority", "correlation_id", "reply_to", "delivery_mode", "message_id", "type", "app_id")
"""An ``expiration`` is left out: the header ``expires`` says the same, by the clock."""


def queue_depth(queue: str) -> int | None:
    """Messages that wait in the broker's ``queue``, or ``None`` if it cannot say."""
    try:
        with current_app.connection_for_read() as broker:
            broker.ensure_connection(max_retries=1, timeout=1)
            channel: Any = broker.default_channel
            return int(channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0  # Redis forgets an empty queue.
    except BROKER_ERRORS as error:
        logger.warning("The broker is away (%s).", error)
        return None


def is_reachable() -> bool:
    """Whether the broker takes connections now."""
    try:
        with current_app.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1, timeout=1)
        return True
    except BROKER_ERRORS:
        return False


Sending = Callable[[Any], object]
"""Sends one message by the producer that it is given."""


def publish(sendings: Iterable[Sending]) -> int:
    """Make the ``sendings``, in order; returns how many messages the broker took.

    The first that it does not take ends the attempt.
    """
    taken = 0
    try:
        with _producer() as producer:
            for send in sendings:
                send(producer)
                taken += 1
    except BROKER_ERRORS as error:
        logger.warning("The broker is away (%s): what is left is sent later.", error)
    return taken


def as_it_came(message: Mapping[str, Any], body: bytes, headers: Mapping[str, Any]) -> Sending:
    """A message that was kept whole, with ``headers`` besides its own."""
    return lambda producer: _publish(producer, message, body, {**message["headers"], **headers})


def _producer() -> AbstractContextManager[Any]:
    return current_app.producer_pool.acquire(block=True, timeout=2)


def _publish(producer: Any, message: Mapping[str, Any], body: bytes, headers: dict[str, Any]) -> None:
    properties = {name: value for name, value in message["properties"].items() if name in _KEPT_PROPERTIES}
    queues = current_app.amqp.queues
    known = queues.get(message["queue"]) if message["exchange"] else None
    producer.publish(
        body,
        exchange=message["exchange"],
        routing_key=message["routing_key"],
        content_type=message["content_type"],
        content_encoding=message["content_encoding"],
        compression=headers.pop("compression", None),
        headers=headers,
        declare=[known] if known is not None else None,
        retry=False,
        **properties,
    )
