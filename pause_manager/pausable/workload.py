"""Pausable tasks as the pause manager's workload: what waits, what workers have in hand, and what was lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from celery import current_app
from django.db import transaction

from pause_manager import conf, workloads
from pause_manager.capacity.snapshot import Allocation
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.pausable import is_pausable, redispatch, running_tasks, uses_of
from pause_manager.pausable.running_tasks import Running
from pause_manager.pause_queue import totals
from pause_manager.probes import processes
from pause_manager.resources import line as resource_line
from pause_manager.scopes import parse, resource
from pause_manager.workloads import MOST_BLOCKERS, Blocker, Counts, HoldChange, Remaining, Waiter, Workload


class PausableTasks(Workload):
    """Tasks of any Celery project: their messages that wait, and what workers have in hand by their last reports."""

    def allocations(self, node: str | None) -> Iterable[tuple[str | None, Allocation]]:
        return running_tasks.allocations(node)

    def in_progress(self, scopes: Collection[str]) -> Mapping[str, Counts]:
        """Return the tasks in hand by scope, and by resource those that run. Two statements at most."""
        found: dict[str, Counts] = {}
        names = [name for kind, name in map(parse, scopes) if kind == "resource"]
        for name, count in running_tasks.in_use(names).items():
            if count:
                found[resource(name)] = {"tasks": count}
        for worker in running_tasks.workers():
            if not (_lives(worker) or _may_still_work(worker)):
                continue
            for scope, count in _in_hand(worker):
                if scope in scopes and count:
                    counts = found.setdefault(scope, {"tasks": 0})
                    counts["tasks"] += count
        return found

    def unreported(self, scopes: Collection[str]) -> Collection[str]:
        """Return those of the held ``scopes`` that a live worker serves and has not confirmed. Two statements."""
        wanted = _revisions(scopes)
        late: set[str] = set()
        for worker in running_tasks.workers():
            if _lives(worker):
                late |= {scope for scope in _scopes(worker) if worker.revision < wanted.get(scope, 0)}
        return late

    def used_resources(self) -> Iterable[str]:
        return {name for task in current_app.tasks.values() if is_pausable(task) for name in uses_of(task)}

    def in_use(self, limits: Mapping[str, int | None]) -> Mapping[str, int]:
        return running_tasks.in_use(limits)

    def waiting_for(self, names: Collection[str]) -> Mapping[str, int]:
        return resource_line.lengths(names)

    def line(self, name: str, at_most: int, user: Any) -> list[Waiter]:
        first = resource_line.first(name, at_most)
        entries = PauseQueueEntry.objects.light().in_bulk(first)
        seen = set(entries)
        if user is not None:
            seen = set(workloads.visible_entries(user).filter(pk__in=seen).values_list("pk", flat=True))
        return [
            Waiter("task", number, one.priority, *((one.ref, one.task_name) if pk in seen else ()))
            for number, (pk, one) in enumerate(((pk, entries[pk]) for pk in first if pk in entries), start=1)
        ]

    def remaining(self, mode: str) -> Remaining:
        """What a worker has received and not started counts as running until it is given back. Four statements."""
        workers = running_tasks.workers()
        tasks = running_tasks.running(workers)
        live = [worker for worker in workers if _lives(worker)]
        silent = set(workers).difference(live)
        of_lost = sum(_all_in_hand(worker) for worker in silent if _may_still_work(worker))
        named = {worker.name for worker in workers}
        # A worker that was started again under its name knows nothing of what the one before it had.
        of_lost += sum(task.is_stale and task.worker not in named for task in tasks)
        queued = totals.messages()
        wanted = _revisions(["fleet"]).get("fleet", 0)
        return Remaining(
            queued,
            sum(_all_in_hand(worker) for worker in live),
            of_lost,
            tuple(_blocker(task) for task in tasks[:MOST_BLOCKERS]),
            unreported=sum(worker.revision < wanted for worker in live),
        )

    def hold_changed(self, change: HoldChange) -> None:
        is_wide = any(scope.partition(":")[0] in ("fleet", "queue", "node", "resource") for scope in change.scopes)
        if change.what == "released" and is_wide:
            transaction.on_commit(lambda: redispatch.send_after_release(change.actor), robust=True)

    def give_way(self, refs: Sequence[str], reason: str) -> None:
        running_tasks.give_way(refs, reason)

    def machine_renamed(self, boot_id: str, old: str, new: str) -> None:
        running_tasks.rename_machine(old, new)


def _blocker(task: Running) -> Blocker:
    return Blocker(
        ref=f"task:{task.task_id}",
        stage=task.task_name,
        item="",
        worker=task.worker,
        node=task.node,
        since=task.started_at,
        is_stale=task.is_stale,
    )


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
