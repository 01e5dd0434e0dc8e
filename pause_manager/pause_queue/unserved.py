"""Queues in which work waits and that no live worker serves."""

from __future__ import annotations

from collections.abc import Collection

from pause_manager import conf, workloads
from pause_manager.nodes import serving


def of(queues: Collection[str]) -> list[str]:
    """Those of ``queues`` that no live worker serves; none as long as those that live do not tell what they serve."""
    wanted = {queue for queue in queues if queue and queue != conf.settings().control_queue}
    served = serving.queues() if wanted else []
    return sorted(wanted - set(served)) if served or not serving.is_any() else []


def every() -> list[str]:
    """All queues in which work waits and that no live worker serves."""
    return of(workloads.waiting_queues())


def sentence(queue: str) -> str:
    """For people."""
    return f"No live worker serves the queue {queue}."
