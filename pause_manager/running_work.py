"""What the fleet switch is told of pausable tasks: those that wait for a hold or room, that run, and that were lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.db.models import Count

from pause_manager import drain, settling
from pause_manager.drain import Blocker, Work
from pause_manager.models import PauseQueueEntry, RunningTask
from pause_manager.running import running
from pause_manager.settling import Counts


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


@settling.register
def at_hand(scopes: Collection[str]) -> Mapping[str, Counts]:
    """Tasks by scope. One statement."""
    found: dict[str, Counts] = {}
    rows = RunningTask.objects.order_by().values_list("queue", "node").annotate(count=Count("pk"))
    for queue, node, count in rows:
        for scope in {"fleet", f"queue:{queue}", f"node:{node}"}.intersection(scopes):
            counts = found.setdefault(scope, {"tasks": 0})
            counts["tasks"] += count
    return found
