"""The tasks running in the fleet: those that workers report, and the rows of those that somebody must be able to find.

A row stands for a task that needs room or that came from the pause queue. Its worker's main process is its owner: it
writes the row before the task starts, keeps it fresh with each beat, and deletes it when the task has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import orjson
from django.db import connection
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation
from pause_manager.messaging.message import Delivery
from pause_manager.messaging.readable import clean
from pause_manager.models import FleetWorker, PauseQueueEntry, RunningTask
from pause_manager.probes import processes
from pause_manager.times import KEEPS_PLACE_SECONDS

logger = logging.getLogger("pause_manager.pausable.running_tasks")

YIELD = "yield"
"""The code of the stop of a task that gives way to other processes."""

_REF = "task:"

# Read by every claim of a loop, too.
_LOADS = f"""
    SELECT task.id, task.node, task.task_id, task.needs::text,
           extract(epoch FROM coalesce(task.lost_at, task.started_at))::float8, task.priority, task.gpus::text,
           task.polls_for_stop AND task.lost_at IS NULL AND NOT coalesce(entry.is_forced, false), task.queue,
           extract(epoch FROM statement_timestamp() - task.started_at)::float8,
           CASE WHEN task.lost_at IS NULL THEN task.owner ELSE '' END, coalesce(entry.pipeline, '')
      FROM {RunningTask._meta.db_table} AS task
      LEFT JOIN {PauseQueueEntry._meta.db_table} AS entry ON entry.id = task.entry_id
     WHERE task.needs IS NOT NULL AND (%(node)s::text IS NULL OR task.node = %(node)s)
       AND (task.lost_at IS NULL OR task.lost_at > statement_timestamp()
                               - make_interval(secs => {KEEPS_PLACE_SECONDS}))
"""


@dataclass(frozen=True)
class Running:
    """A running task, as anybody may ask."""

    task_id: str
    task_name: str
    queue: str
    node: str
    worker: str
    started_at: datetime
    is_stale: bool
    """Its worker has not been heard of for three beats, or has ended."""


def running(told: Iterable[Any] | None = None) -> list[Running]:
    """The running tasks, the oldest first; of a worker that runs many its oldest fifty. By the database's clock.

    A task that has just started is told with the next beat of its worker. ``told``: what :func:`workers` returned.
    """
    beat = timedelta(seconds=3 * conf.settings().worker_beat_seconds)
    found: dict[tuple[str, str], Running] = {}
    for worker in workers() if told is None else told:
        is_stale = worker.unseen > beat or processes.is_dead(worker.owner)
        for task in worker.tasks:
            started = worker.last_seen_at - timedelta(seconds=task["seconds"])
            known = (task["task_id"], task["task_name"], task["queue"], worker.node, worker.name, started, is_stale)
            found[worker.name, task["task_id"]] = Running(*known)
    for row in _with_age():
        is_stale = row.unseen > beat or processes.is_dead(row.owner)
        known = (row.task_id, row.task_name, row.queue, row.node, row.worker, row.started_at, is_stale)
        found[row.worker, row.task_id] = Running(*known)
    return sorted(found.values(), key=lambda task: task.started_at)


def workers() -> list[Any]:
    """Every worker that is not forgotten, with ``unseen``, the time since its last beat. One statement."""
    known = FleetWorker.objects.with_age().order_by("name")
    return list(known.defer("task_names", "pipelines", "visible_gpus", "files"))


def _with_age() -> Iterable[Any]:
    return RunningTask.objects.at_work().with_age()


def lost() -> list[RunningTask]:
    """The rows whose process has ended (of this machine) or has not been heard of for long (of another)."""
    return [row for row in _with_age() if _is_lost(row)]


def mark_lost(rows: Iterable[RunningTask]) -> None:
    """The workers of these rows were lost. What acknowledges late comes again and keeps its place for it meanwhile."""
    rows = list(rows)
    comes_again = [row.pk for row in rows if row.acks_late and row.needs is not None]
    # Without its turn: a worker that was taken for lost, and is not, finds its row no more.
    RunningTask.objects.at_work().filter(pk__in=comes_again).update(lost_at=Now(), turn=None)
    RunningTask.objects.filter(pk__in={row.pk for row in rows}.difference(comes_again)).delete()


def place_among(runs: Sequence[Any]) -> RunningTask | None:
    """Of earlier runs of one message (``with_age``) that whose worker was lost a moment ago: it keeps its place."""
    for row in runs:
        if _is_lost(row) if row.lost_at is None else row.keeps_place:
            return cast("RunningTask", row)
    return None


def _is_lost(row: Any) -> bool:
    elsewhere = timedelta(seconds=conf.settings().running_lost_seconds)
    if processes.is_here(row.owner):
        # One that lives and says nothing is frozen, or left its row behind when the database went away.
        return processes.is_dead(row.owner) or row.unseen > 10 * elsewhere
    return bool(row.unseen > elsewhere)


def allocations(node: str | None) -> Iterable[tuple[str | None, Allocation]]:
    """What tasks with declared needs take of the nodes, and what is sent on and has not started."""
    with connection.cursor() as cursor:
        cursor.execute(_LOADS, {"node": node})
        rows = cursor.fetchall()
    for pk, name, task_id, needs, started_at, priority, gpus, can_yield, queue, ran_seconds, owner, policy in rows:
        declared = Needs(**orjson.loads(needs))
        yield (
            name,
            Allocation(
                f"{_REF}{task_id}/{pk}",
                declared,
                started_at,
                priority,
                tuple(map(str, orjson.loads(gpus))),
                can_yield=can_yield,
                queue=queue,
                policy=policy,
                # What it leaves with is known only when it has left: it may have to begin again.
                repeats_seconds=ran_seconds,
                container=processes.container_of(owner),
            ),
        )
    if node is None:
        capacity = PauseQueueEntry.WaitsFor.CAPACITY
        sent = PauseQueueEntry.objects.unconfirmed().filter(waits_for=capacity)
        columns = sent.values_list("ref", "needs", "sent_at", "priority", "work_queue")
        for ref, wanted, sent_at, priority, queue in columns:
            since = sent_at.timestamp() if sent_at else 0.0
            yield None, Allocation(ref, Needs(**wanted), since, priority, is_sent=True, queue=queue)


def give_way(refs: Sequence[str], reason: str) -> None:
    """Ask those of ``refs`` that are tasks to leave."""
    rows = [int(ref.rpartition("/")[2]) for ref in refs if ref.startswith(_REF)]
    RunningTask.objects.filter(pk__in=rows, stop_reason="").update(stop_reason=reason)


def rename_machine(old: str, new: str) -> None:
    """Write the new name of a machine to the rows of its tasks."""
    rows = RunningTask.objects.filter(node=old).order_by("id").select_for_update(no_key=True)
    RunningTask.objects.filter(pk__in=[row.pk for row in rows.only("pk")]).update(node=new)


def begin(delivery: Delivery, *, node: str, gpus: Sequence[str], entry: PauseQueueEntry | None) -> int:
    """Write the row of a delivery that may run now; returns its key."""
    row = RunningTask.objects.create(
        turn=delivery.turn,
        task_id=clean(delivery.task_id),
        task_name=clean(delivery.task_name),
        queue=clean(delivery.short_queue),
        node=node,
        worker=delivery.worker,
        owner=processes.identity(),
        acks_late=delivery.acks_late,
        priority=delivery.priority,
        needs=needs_as_json(delivery.needs),
        gpus=list(gpus),
        uses=list(delivery.uses),
        entry=entry,
    )
    return row.pk


def end(turn: UUID) -> bool:
    """Delete the row of ``turn``; False if there was none: it was taken for lost."""
    deleted, _ = RunningTask.objects.filter(turn=turn).delete()
    return bool(deleted)


def in_use(names: Iterable[str]) -> dict[str, int]:
    """How many running tasks use each of these resources."""
    wanted = list(names)
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_USE, {"names": wanted})
        return dict(cursor.fetchall())


_USE = f"""
    SELECT asked.name, count(task.id)
      FROM unnest(%(names)s::text[]) AS asked(name)
      LEFT JOIN {RunningTask._meta.db_table} AS task ON task.lost_at IS NULL AND asked.name = ANY(task.uses)
     GROUP BY asked.name
"""


def forget(pks: Collection[int]) -> None:
    """Delete these rows: their places are given up."""
    RunningTask.objects.filter(pk__in=pks).delete()


END = f"DELETE FROM {RunningTask._meta.db_table} WHERE turn = ANY(%(turns)s) RETURNING entry_id"
"""Deletes the rows of ``turns``; returns the entries that they came from."""

HEARTBEAT = f"""
    UPDATE {RunningTask._meta.db_table}
       SET heartbeat_at = statement_timestamp(),
           polls_for_stop = polls_for_stop OR turn = ANY(%(asking)s::uuid[])
     WHERE owner = %(owner)s
"""
"""Keeps the rows of the worker ``owner`` fresh, and notes which of its tasks have polled for a stop."""


def needs_as_json(needs: Needs | None) -> Any:
    """As the row keeps it."""
    return None if needs is None else orjson.loads(orjson.dumps(needs))
