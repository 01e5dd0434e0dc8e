"""Deliveries as a worker's main process has them: a real message, and Celery's request of it."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from celery import current_app
from kombu.message import Message

from pause_manager.messaging import priorities
from pause_manager.messaging.message import Delivery
from pause_manager.worker.request import PausableRequest

QUEUE = "foreign"


def delivery(task: Any, queue: str = QUEUE, **told: Any) -> Delivery:
    """One delivery of a call ``(1, x=2)``. ``told``: headers, ``properties``, ``delivery_info`` (with priority),
    and what is ``embedded`` in its body.
    """
    task_id = str(told.pop("id", uuid4()))
    address = {"exchange": "", "routing_key": queue, "redelivered": False, **told.pop("delivery_info", {})}
    properties = {"delivery_tag": str(uuid4()), "correlation_id": task_id, "priority": address.pop("priority", None)}
    properties |= told.pop("properties", {})
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **told.pop("embedded", {})}
    headers: dict[str, Any] = {"id": task_id, "task": task.name, "retries": 0, "lang": "py", **told}
    priorities.wished(headers, properties)  # as its sender would have
    message = Message(
        body=json.dumps([[1], {"x": 2}, embedded]),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info=address,
        properties=properties,
        headers=headers,
    )
    request = PausableRequest(message, app=current_app, task=task, hostname="worker@here")
    request.drop()  # It counts as in nobody's hand: there is no worker.
    return request.delivery()
