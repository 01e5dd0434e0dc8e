"""Which tasks live workers know, and the messages that would find nobody after a resume."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager import acknowledgements
from pause_manager.models import FleetWorker, PauseQueueEntry


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


_WAITING = f"""
    SELECT task_name, queue, count(*) FROM {PauseQueueEntry._meta.db_table}
     WHERE finished_at IS NULL AND ref NOT LIKE 'run:%%' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""


def unknown_names() -> list[UnknownName]:
    """What would find nobody, the most first. Left out are queues some of whose workers do not tell what they know."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [])
        waiting = [UnknownName(*row) for row in cursor.fetchall()]
    if not waiting:
        return []
    known, silent = names_by_queue(), _queues_of_silent_workers()
    return [one for one in waiting if one.queue not in silent and one.task_name not in known.get(one.queue, ())]


_latest: tuple[float, list[UnknownName]] | None = None


def unknown_names_of_late() -> list[UnknownName]:
    """The same, for what is asked for all the time: where much waits, the answer is good for some seconds."""
    global _latest
    began = time.monotonic()
    if _latest is None or began >= _latest[0]:
        found = unknown_names()
        took = time.monotonic() - began
        _latest = (began + (50 * took if took > 0.02 else 0.0), found)
    return _latest[1]


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
    gone = timedelta(seconds=acknowledgements.gone_seconds())
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone)
