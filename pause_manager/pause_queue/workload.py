"""The entries of the pause queue as work that waits: which queues bring it, and what a released run leaves here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.db import connection

from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import heads, parked_tasks, poller, writer
from pause_manager.workloads import HoldChange, Workload

_ENTRY = PauseQueueEntry._meta.db_table

# One look into the index per queue, however many messages are on their way.
_SENT = f"""
    WITH RECURSIVE sent AS (
        (SELECT queue FROM {_ENTRY} WHERE outcome = 'sent' AND confirmed_at IS NULL ORDER BY queue LIMIT 1)
         UNION ALL
        SELECT (SELECT entry.queue FROM {_ENTRY} AS entry
                 WHERE entry.outcome = 'sent' AND entry.confirmed_at IS NULL AND entry.queue > sent.queue
                 ORDER BY entry.queue LIMIT 1)
          FROM sent WHERE sent.queue IS NOT NULL
    )
    SELECT queue FROM sent WHERE queue IS NOT NULL
"""


class PauseQueue(Workload):
    """What waits in the pause queue, no matter who parked it, and what was sent on and not confirmed."""

    def waiting_queues(self) -> Iterable[str]:
        with connection.cursor() as cursor:
            cursor.execute(_SENT)
            return [*heads.queues(), *(row[0] for row in cursor.fetchall())]

    def waiting(self) -> Mapping[tuple[str, str], int]:
        return {("tasks", reason): count for reason, count in parked_tasks.by_reason().items()}

    def override_queues(self) -> Iterable[str]:
        return PauseQueueEntry.objects.unconfirmed().filter(is_forced=True).values_list("queue", flat=True)

    def hold_changed(self, change: HoldChange) -> None:
        if change.what == "released":
            writer.drop_released(change.scopes, actor=change.actor)

    def ignore_capacity(self, refs: Sequence[str]) -> None:
        writer.force(refs)

    def machine_renamed(self, boot_id: str, old: str, new: str) -> None:
        poller.rename_machine(old, new)
