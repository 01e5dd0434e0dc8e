"""Each task's message has a name of its own, by which a broker that has none for it (AMQP) delivers it again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from celery import signals

PROPERTY = "message_id"
"""AMQP's own property for it; other transports carry it along."""


@signals.before_task_publish.connect
def name_message(properties: dict[str, Any] | None = None, **_: Any) -> None:
    """Name the message that is about to be published, unless its sender has."""
    if properties is not None and not properties.get(PROPERTY):
        properties[PROPERTY] = uuid4().hex
