"""The shell round the adaptive mode: trouble at a node is read from the audit trail, and each move is told there."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.db import models
from django.db.models.functions import Extract, Now

from pause_manager import capacity, database
from pause_manager.actor import CAPACITY
from pause_manager.models import ControlEvent
from pause_manager.models.clock import database_seconds
from pause_manager.observability import audit

logger = logging.getLogger("pause_manager.nodes.threshold")

OUT_OF_MEMORY = "out_of_memory"
LOOK_SECONDS = 5.0
TELL_SECONDS = 60.0
"""A process tells at most once in so long that a node is out of memory: its items may all fail alike."""

_looked_at: dict[str, float] = {}
_told_at: dict[str, float] = {}


def adapted(node: str, current: capacity.Adaptation | None, policy: capacity.Policy) -> capacity.Adaptation | None:
    """The threshold of ``node`` from now on; a move is an event with what it was made from.

    The trail is read every ``LOOK_SECONDS``; in between, and while the mode is off, it stays as it is.
    """
    if not policy.adaptive or time.monotonic() < _looked_at.get(node, 0.0) + LOOK_SECONDS:
        return current
    _looked_at[node] = time.monotonic()
    contended_at, out_of_memory_at = _trouble(node, policy.adaptive_window_seconds)
    now = database_seconds()
    after = capacity.adapt(current, policy, now, contended_at=contended_at, out_of_memory_at=out_of_memory_at)
    if after is not None and current is not None and after.pause_below != current.pause_below:
        details = {
            "from": current.pause_below,
            "to": after.pause_below,
            "contentions": len(contended_at),
            "out_of_memory": len(out_of_memory_at),
            "window_seconds": policy.adaptive_window_seconds,
            "bounds": [policy.adaptive_min, policy.adaptive_max],
        }
        audit.record(
            "threshold_moved",
            scope=f"node:{node}",
            actor=CAPACITY,
            reason=after.sentence,
            details=details,
            before={"pause_below": current.pause_below},
            after={"pause_below": after.pause_below},
        )
    return after


def note_out_of_memory(node: str, *, reason: str, details: dict[str, Any]) -> None:
    """Write an event that ``node`` ran out of memory. Never raises: who has no memory has trouble enough."""
    if time.monotonic() < _told_at.get(node, -TELL_SECONDS) + TELL_SECONDS:
        return
    _told_at[node] = time.monotonic()
    try:
        audit.record(OUT_OF_MEMORY, scope=f"node:{node}", actor=CAPACITY, reason=reason, details=details)
    except DatabaseError as error:
        logger.warning("%s ran out of memory, which cannot be noted: %s", node, database.sentence(error))


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error`` says that memory, of the machine or of a GPU (torch's ``OutOfMemoryError``), was short."""
    return isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def _trouble(node: str, window_seconds: float) -> tuple[list[float], list[float]]:
    """Return when contentions began to cost loops, one time for each, and when memory ran out."""
    lately = ControlEvent.objects.filter(at__gt=Now() - timedelta(seconds=window_seconds))
    renamed = lately.filter(scope=f"node:{node}", action="node_renamed").values_list("before__name", flat=True)
    rows = (
        lately.filter(
            scope__in=[f"node:{name}" for name in (node, *renamed)], action__in=["yield_wanted", OUT_OF_MEMORY]
        )
        .order_by("id")
        .values_list("action", Extract("at", "epoch", output_field=models.FloatField()), "details__contended_since")
    )
    contentions: dict[Any, float] = {}
    out_of_memory = []
    for action, at, since in rows:
        if action == OUT_OF_MEMORY:
            out_of_memory.append(float(at))
        else:
            contentions.setdefault(since, float(at))
    return sorted(contentions.values()), out_of_memory
