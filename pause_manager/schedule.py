"""What beat must ask for, as one constant: ``CELERY_BEAT_SCHEDULE = {**BEAT_SCHEDULE, ...}``."""

from __future__ import annotations

from typing import Any

CONTROL_TASKS: dict[str, float] = {
    "pause_manager.expire_holds": 5.0,
    "pause_manager.poll": 10.0,
    "pause_manager.forget_outcomes": 600.0,
    "pause_manager.forget_history": 3600.0,
}
"""Each control task and its interval in seconds."""


def beat_schedule(control_queue: str = "control", **seconds: float) -> dict[str, dict[str, Any]]:
    """The entries for beat; intervals by the last part of a task's name (``poll=5``).

    A control message that waited for longer than two intervals is worth nothing: the next one does the same.
    """
    entries = {}
    for task, default in CONTROL_TASKS.items():
        interval = seconds.get(task.rpartition(".")[2], default)
        options = {"queue": control_queue, "expires": interval * 2}
        entries[task] = {"task": task, "schedule": interval, "options": options}
    return entries


BEAT_SCHEDULE = beat_schedule()
"""With the default intervals, on the queue ``control``."""
