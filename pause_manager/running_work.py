"""What the fleet switch is told of pausable tasks: those that wait for a hold or room, that run, and that were lost."""

from __future__ import annotations

from pause_manager import drain
from pause_manager.drain import Blocker, Work
from pause_manager.models import PauseQueueEntry
from pause_manager.running import running


@drain.register
def work(mode: str) -> Work:
    """Two statements. When a task will end nobody knows."""
    tasks = running()
    lost = sum(task.is_stale for task in tasks)
    blockers = tuple(
        Blocker(
            ref=f"task:{task.task_id}",
            stage=task.task_name,
            item="",
            worker=task.worker,
            node=task.node,
            since=task.started_at,
            is_stale=task.is_stale,
        )
        for task in tasks[: drain.MOST_BLOCKERS]
    )
    queued = PauseQueueEntry.objects.waiting().messages().count()
    return Work(queued, len(tasks) - lost, lost, blockers)
