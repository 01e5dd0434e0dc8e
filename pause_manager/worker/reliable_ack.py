"""A broker that refuses, fails over or hangs ends no worker, costs it no hearing, and loses no message in its hand."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery, bootsteps
from celery.utils.log import get_logger
from celery.worker.request import Request
from redis.exceptions import ResponseError

from pause_manager.worker.consumption import consumption

logger = get_logger("celery.worker.request")
REFUSED_SECONDS = 1.0
"""A worker waits so long before it connects again to a broker that is up and refuses."""


class ReliableAckRequest(Request):
    """Has the worker connect again when its message could not be acknowledged.

    Celery logs that and continues, but such a message counts forever as one that the worker has in hand. After as many
    as it may have at a time (a Redis that hung while its tasks ended is enough) it asks for no further one.
    """

    def acknowledge(self) -> None:
        if not self.acknowledged:
            # celery-types knows neither.
            acknowledge, errors = self._on_ack, self._connection_errors  # type: ignore[attr-defined]
            acknowledge(AckFailureLogger(self.message.channel), errors)
            self.acknowledged = True


class AckFailureLogger:
    """Celery's logger, to whom alone a failure is told: the acknowledgement is made later, by the worker's loop."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def critical(self, *args: Any, **options: Any) -> None:
        logger.critical(*args, **options)
        consumption.reconnect(self.channel)


class BrokerRefusalStep(bootsteps.Step):
    """Has a worker outlast a Redis that is up and refuses: read-only after a failover, loading, full, without a master.

    Celery takes that for the end; here it is a lost connection, wherever Celery and kombu look for one.
    """

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        if (refusal := _refusal(consumer.app)) is None:
            return
        react = consumer.on_connection_error_after_connected

        def react_slowly(error: Exception) -> None:
            react(error)
            if isinstance(error, refusal):
                time.sleep(REFUSED_SECONDS)

        consumer.on_connection_error_after_connected = react_slowly


class RestoreOrphansStep(bootsteps.StartStopStep):
    """Gives back to the queue what a worker took off it and could not write down as taken."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, consumer: Any) -> None:
        """Before messages are taken from a new connection; a broker that still refuses is asked again with the next."""
        known = getattr(consumer.connection.default_channel, "qos", None)
        if known is not None and hasattr(known, "give_back"):  # a Redis; RabbitMQ keeps what is unacknowledged itself
            known.give_back()


_orphans: dict[str, tuple[Any, str, str]] = {}
"""By delivery tag messages that are in nobody's list: as they came, with exchange and routing key."""


def _reliable_qos(known: type[Any]) -> type[Any]:
    """Redis' list of unacknowledged messages, which keeps in mind those that it could not enter."""

    class ReliableQoS(known):  # type: ignore[misc]
        def append(self, message: Any, delivery_tag: str) -> None:
            try:
                super().append(message, delivery_tag)
            except Exception:
                came = message.delivery_info
                _orphans[delivery_tag] = (message._raw, came["exchange"], came["routing_key"])
                raise

        def give_back(self) -> None:
            for tag, (raw, exchange, routing_key) in tuple(_orphans.items()):
                with self.channel.conn_or_acquire() as client:
                    # The answer may have been lost, and the entry not.
                    if client.hexists(self.unacked_key, tag):
                        self.restore_by_tag(tag, client=client, leftmost=True)
                    else:
                        self.channel._do_restore_message(raw, exchange, routing_key, client, leftmost=True)
                del _orphans[tag]

    return ReliableQoS


def _refusal(app: Celery) -> type[Exception] | None:
    if _transport(app).driver_type != "redis":
        return None
    return ResponseError


def _transport(app: Celery) -> Any:
    connection: Any = app.connection_for_read()
    return connection.get_transport_cls()


def install(app: Celery) -> None:
    """Have the consumer of a worker outlast a broker that refuses. The request is installed by ``worker_steps``."""
    app.steps["consumer"].update((BrokerRefusalStep, RestoreOrphansStep))
    transport = _transport(app)
    if (refusal := _refusal(app)) is not None and refusal not in transport.connection_errors:
        transport.connection_errors = (*transport.connection_errors, refusal)
        transport.Channel.QoS = _reliable_qos(transport.Channel.QoS)
