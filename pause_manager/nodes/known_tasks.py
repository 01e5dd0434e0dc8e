"""Which tasks live workers know, and the messages that would find nobody after a resume."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager.database.recent import Recent
from pause_manager.models import FleetWorker, PauseQueueEntry
from pause_manager.nodes import members


@dataclass(frozen=True)
class UnknownName:
    """Messages of a task that wait for a queue on which no live worker knows it."""

    task_name: str
    queue: str
    count: int

    def __str__(self) -> str:
        what = "message" if self.count == 1 else "messages"
        return (
            f"{self.count:,} parked {what} of the task {self.task_name}: "
            f"no live worker that serves queue {self.queue} knows it."
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"task_name": self.task_name, "queue": self.queue, "count": self.count}


@dataclass(frozen=True)
class StuckMessages:
    """What nobody would take up, or takes up."""

    unknown: list[UnknownName]
    """What would find nobody, the most first. Left out are queues some of whose workers do not tell what they know."""
    stuck: dict[str, int]
    """How many entries have each problem; only those that some have."""


STUCK = f"""
    SELECT problem, count(*) FROM {PauseQueueEntry._meta.db_table}
     WHERE problem <> '' AND (finished_at IS NULL OR (outcome = 'sent' AND confirmed_at IS NULL)) GROUP BY problem
"""

_LOOK = f"""
    SELECT * FROM (SELECT '', task_name, queue, count(*) FROM {PauseQueueEntry._meta.db_table}
                    WHERE finished_at IS NULL AND ref NOT LIKE 'run:%%' GROUP BY task_name, queue
                    ORDER BY count(*) DESC, task_name, queue) AS waiting
     UNION ALL SELECT problem, '', '', count FROM ({STUCK}) AS stuck
"""


def _rows() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, [])
        return list(cursor.fetchall())


def _told(rows: list[Any]) -> StuckMessages:
    waiting = [UnknownName(*row[1:]) for row in rows if not row[0]]
    problems = {row[0]: row[3] for row in rows if row[0]}
    if waiting:
        known, silent = names_by_queue(), _queues_of_silent_workers()
        waiting = [one for one in waiting if one.queue not in silent and one.task_name not in known.get(one.queue, ())]
    return StuckMessages(waiting, problems)


_recent_rows = Recent(_rows, lambda rows: sum(row[3] for row in rows))


def stuck_messages() -> StuckMessages:
    """Return what is parked and has no prospect of being run. Where much waits, it is of some seconds ago."""
    return _told(_recent_rows())


def names_by_queue() -> dict[str, set[str]]:
    """The tasks that live workers know, by each queue that they serve. Workers that tell no names are left out."""
    found: dict[str, set[str]] = {}
    for queues, names in _live_workers().values_list("serves", "task_names"):
        for queue in queues if names else ():
            found.setdefault(queue, set()).update(names)
    return found


def _queues_of_silent_workers() -> set[str]:
    """The queues that live workers serve who do not tell what tasks they know, such as those of an older release."""
    silent = _live_workers().filter(task_names=[]).values_list("serves", flat=True)
    return {queue for queues in silent for queue in queues}


def _live_workers() -> QuerySet[FleetWorker]:
    gone = timedelta(seconds=members.gone_seconds())
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone)
