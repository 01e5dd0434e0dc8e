"""The beat schedule of the control tasks: ``CELERY_BEAT_SCHEDULE = {**BEAT_SCHEDULE, ...}``."""

from __future__ import annotations

from typing import Any

CONTROL_TASKS: dict[str, float] = {
    "pause_manager.expire_holds": 5.0,
    "pause_manager.poll": 10.0,
    "pause_manager.keep_windows": 5.0,
    "pause_manager.forget_outcomes": 600.0,
    "pause_manager.forget_history": 3600.0,
}
"""Each control task and its interval in seconds."""

INTERVAL = "control_interval"
"""The header of a control message that says how often it comes, in seconds."""


def entry(task: str, seconds: float, queue: str | None = None) -> dict[str, Any]:
    """The entry of one control task for beat.

    Its messages do not expire: that would go by beat's clock and by the worker's, which may differ. A message that
    comes too soon after another was acted on costs one statement instead, see ``control_task``.
    """
    options = {"headers": {INTERVAL: seconds}, **({"queue": queue} if queue else {})}
    return {"task": task, "schedule": seconds, "options": options}


def beat_schedule(control_queue: str = "control", **seconds: float) -> dict[str, dict[str, Any]]:
    """The entries for beat; intervals by the last part of a task's name (``poll=5``)."""
    return {
        task: entry(task, seconds.get(task.rpartition(".")[2], default), control_queue)
        for task, default in CONTROL_TASKS.items()
    }


BEAT_SCHEDULE = beat_schedule()
"""With the default intervals, on the queue ``control``."""
