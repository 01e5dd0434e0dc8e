"""Each task's message has a name of its own, by which a broker that has none for it (AMQP) delivers it again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from celery import signals

from pause_manager.messaging import priorities

PROPERTY = "message_id"
"""AMQP's own property for it; other transports carry it along."""


@signals.before_task_publish.connect
def name_message(properties: dict[str, Any] | None = None, headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Name the message that is about to be published, unless its sender has, and note the priority it wishes for."""
    if properties is None:
        return
    if not properties.get(PROPERTY):
        properties[PROPERTY] = uuid4().hex
    priorities.wished(headers, properties)
