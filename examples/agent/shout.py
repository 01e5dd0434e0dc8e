"""An example of work: one output an item, its text in capitals."""

from __future__ import annotations

import time
from typing import Any


def process(item: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    """``job`` has ``params``, ``run``, ``stage``, ``gpus`` and the item's ``key``: together an idempotency key."""
    time.sleep(float(job["params"].get("seconds", 0)))
    return [{"text": str(item["text"]).upper()}]
