"""Messages to be sent: one that was kept whole, and a new one of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import current_app

Sending = Callable[[Any], object]
"""Sends one message by the producer that it is given."""

_KEPT_PROPERTIES = ("priority", "correlation_id", "reply_to", "delivery_mode", "message_id", "type", "app_id")
"""An ``expiration`` is left out: the header ``expires`` says the same, by the clock."""


def copy_message(message: Mapping[str, Any], body: bytes, headers: Mapping[str, Any], *, queue: str = "") -> Sending:
    """A message that was kept whole, with ``headers`` besides its own, to ``queue`` (else the one it was taken from).

    It goes to that queue alone, by the default exchange: a topic would give copies to others, a delayed exchange has
    delayed it once.
    """
    properties = {name: value for name, value in message["properties"].items() if name in _KEPT_PROPERTIES}
    told = {**message["headers"], **headers}
    compression = told.pop("compression", None)
    return lambda producer: producer.publish(
        body,
        exchange="",
        routing_key=queue or message["queue"],
        mandatory=True,
        content_type=message["content_type"],
        content_encoding=message["content_encoding"],
        compression=compression,
        headers=dict(told),
        retry=False,
        **properties,
    )


def task_message(
    task_name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    task_id: str,
    queue: str,
    headers: Mapping[str, Any],
) -> Sending:
    """A new message of a task, to ``queue`` alone, built as ``send_task`` does.

    Not by ``send_task``: that listens for the result, which nobody here will ask for, on a connection without bounds.
    """

    def send(producer: Any) -> None:
        app: Any = current_app
        task = app.tasks.get(task_name)
        own = {name: value for name in _OWN_OPTIONS if (value := getattr(task, name, None)) is not None}
        limits = {name: getattr(task, name, None) for name in ("time_limit", "soft_time_limit", "expires")}
        message = app.amqp.create_task_message(
            task_id,
            task_name,
            args,
            kwargs,
            reply_to=app.thread_oid,
            create_sent_event=app.conf.task_send_sent_event,
            ignore_result=None,
            **limits,
        )
        app.amqp.send_task_message(
            producer,
            task_name,
            message,
            queue=queue,
            exchange="",
            routing_key=queue,
            declare=[],
            mandatory=True,
            headers=dict(headers),
            retry=False,
            **own,
        )

    return send


_OWN_OPTIONS = ("serializer", "compression", "delivery_mode", "priority")
"""What a task may say of its messages."""
