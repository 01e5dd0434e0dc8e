"""How much waits in the pause queue, and since when: exact while it is little, of some seconds ago where it is much."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import connection
from django.db.models import Count, Min

from pause_manager.database.recent import Recent
from pause_manager.models import PauseQueueEntry

_OLDEST = f"""
    SELECT min(first.paused_at) FROM generate_series(1, 5) AS each(priority)
     CROSS JOIN LATERAL (SELECT paused_at FROM {PauseQueueEntry._meta.db_table} AS entry
                          WHERE finished_at IS NULL AND entry.priority = each.priority
                          ORDER BY entry.paused_at LIMIT 1) AS first
"""


class Waiting(NamedTuple):
    """Entries that wait for one sort of thing."""

    entries: int
    since: datetime | None
    """Of the oldest."""


def oldest() -> datetime | None:
    """Since when the oldest of all entries has waited: one look into the index for each priority."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        found: datetime | None = cursor.fetchone()[0]
    return found


def _by_what_they_wait_for() -> dict[str, Waiting]:
    rows = PauseQueueEntry.objects.waiting().order_by().values_list("waits_for")
    return {what: Waiting(*rest) for what, *rest in rows.annotate(count=Count("pk"), since=Min("paused_at"))}


def _messages() -> int:
    return PauseQueueEntry.objects.waiting().messages().order_by().count()


waiting = Recent(_by_what_they_wait_for, lambda found: sum(one.entries for one in found.values()))
"""By what they wait for. One statement."""
messages = Recent(_messages, int)
"""How many messages wait. One statement."""
