"""While the file ``double`` lies in the fleet's directory, every message to a stage is published twice."""

from __future__ import annotations

import os
import threading
from typing import Any

from celery import current_app, signals

from automation.dispatch.dispatcher import TASK

_repeating = threading.local()


@signals.after_task_publish.connect(sender=TASK)
def publish_again(body: Any, routing_key: str, **_: Any) -> None:
    """Send the message that was just sent once more, in the same breath."""
    if getattr(_repeating, "now", False) or not os.path.exists(os.environ["CHAOS_DOUBLE"]):
        return
    _repeating.now = True
    try:
        current_app.send_task(TASK, args=body[0], queue=routing_key)
    finally:
        _repeating.now = False
