"""What the fleet switch is told of tasks: those that wait, that workers have in hand, and that were lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

from pause_manager import conf
from pause_manager.fleet import drain
from pause_manager.fleet.drain import Blocker, Work
from pause_manager.holds import milestones
from pause_manager.holds.milestones import Counts
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.pausable import running_tasks
from pause_manager.probes import processes


@drain.register
def work(mode: str) -> Work:
    """Four statements. What a worker has received and not started counts as at work until it is kept or given back."""
    tasks = running_tasks.running()
    workers = running_tasks.workers()
    live = [worker for worker in workers if _lives(worker)]
    of_lost = sum(_all_in_hand(worker) for worker in workers if not _lives(worker) and _may_still_work(worker))
    named = {worker.name for worker in workers}
    # A worker that was started again under its name knows nothing of what the one before it had.
    of_lost += sum(task.is_stale and task.worker not in named for task in tasks)
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
    wanted = _revisions(["fleet"]).get("fleet", 0)
    return Work(
        queued,
        sum(_all_in_hand(worker) for worker in live),
        of_lost,
        blockers,
        unreported=sum(worker.revision < wanted for worker in live),
    )


@milestones.register
def at_hand(scopes: Collection[str]) -> Mapping[str, Counts]:
    """Tasks in hand by scope, by the last reports. One statement."""
    found: dict[str, Counts] = {}
    for worker in running_tasks.workers():
        if not (_lives(worker) or _may_still_work(worker)):
            continue
        for scope, count in _in_hand(worker):
            if scope in scopes and count:
                counts = found.setdefault(scope, {"tasks": 0})
                counts["tasks"] += count
    return found


@milestones.register_reporting
def unreported(scopes: Collection[str]) -> set[str]:
    """Those of the held ``scopes`` that a live worker serves and has not said to obey. Two statements."""
    wanted = _revisions(scopes)
    late: set[str] = set()
    for worker in running_tasks.workers():
        if _lives(worker):
            late |= {scope for scope in _scopes(worker) if worker.revision < wanted.get(scope, 0)}
    return late


def _revisions(scopes: Collection[str]) -> dict[str, int]:
    """Of each held scope, the revision of the holds from which on a worker obeys it."""
    held: dict[str, int] = {}
    for scope, revision in Hold.objects.covering(scopes).values_list("scope", "revision"):
        held[scope] = max(held.get(scope, 0), revision)
    return held


def _lives(worker: Any) -> bool:
    """Whether it is waited for: it was heard of lately, and its process has not ended."""
    is_heard = worker.unseen <= timedelta(seconds=members.gone_seconds())
    return is_heard and not processes.is_dead(worker.owner)


def _may_still_work(worker: Any) -> bool:
    """Of one that is not waited for: it is of this machine and frozen, or of another and may be cut off."""
    if processes.is_dead(worker.owner):
        return False
    lost = timedelta(seconds=conf.settings().running_lost_seconds)
    return bool(worker.unseen <= (10 * lost if processes.is_here(worker.owner) else lost))


def _all_in_hand(worker: Any) -> int:
    return sum(sum(counts) for counts in worker.in_hand.values())


def _in_hand(worker: Any) -> Iterable[tuple[str, int]]:
    for scope in ("fleet", f"node:{worker.node}"):
        yield scope, _all_in_hand(worker)
    for queue, counts in worker.in_hand.items():
        yield f"queue:{queue}", sum(counts)


def _scopes(worker: Any) -> set[str]:
    return {"fleet", f"node:{worker.node}", *(f"queue:{queue}" for queue in worker.serves)}
