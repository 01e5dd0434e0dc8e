"""What waits for room and comes first: a few of each kind, found by the index, however much waits behind them.

A kind is what goes by one policy and one place in the order: queue of the work, pipeline, priority, needs. Each is
found by one look into the index, and so are its first entries: neither a poll nor an admission reads what is behind.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import orjson

from pause_manager.capacity.needs import Needs
from pause_manager.database.reads import rows_of
from pause_manager.models import Hold, PauseQueueEntry

MOST_KINDS = 64
"""The most kinds of each queue that an admission looks at."""
MOST_HEADS = 50
"""The most entries of each kind that an admission looks at for one that may continue now."""
MOST_KINDS_OF_POLL = 1_000

_ENTRY = PauseQueueEntry._meta.db_table
_HOLD = f"SELECT FROM {Hold._meta.db_table} AS hold WHERE hold.released_at IS NULL"
_WAITS = "entry.finished_at IS NULL AND entry.waits_for = 'capacity'"

_QUEUES = f"""
    WITH RECURSIVE queues AS (
        (SELECT work_queue FROM {_ENTRY} AS entry WHERE {_WAITS} ORDER BY work_queue LIMIT 1)
         UNION ALL
        SELECT (SELECT entry.work_queue FROM {_ENTRY} AS entry WHERE {_WAITS} AND entry.work_queue > queues.work_queue
                 ORDER BY entry.work_queue LIMIT 1)
          FROM queues WHERE queues.work_queue IS NOT NULL
    )
"""

_KINDS = f"""
    {_QUEUES}, kind AS (
        SELECT first.*, 1 AS number
          FROM queues
         CROSS JOIN LATERAL (
                SELECT work_queue, pipeline, priority, needs FROM {_ENTRY} AS entry
                 WHERE {_WAITS} AND entry.work_queue = queues.work_queue
                 ORDER BY pipeline, priority, needs LIMIT 1) AS first
         WHERE (%(queues)s::text[] IS NULL OR queues.work_queue = '' OR queues.work_queue = ANY(%(queues)s))
           AND NOT EXISTS ({_HOLD} AND hold.scope IN ('fleet', 'queue:' || queues.work_queue))
         UNION ALL
        SELECT next.*, kind.number + 1
          FROM kind
         CROSS JOIN LATERAL (
                SELECT work_queue, pipeline, priority, needs FROM {_ENTRY} AS entry
                 WHERE {_WAITS} AND entry.work_queue = kind.work_queue
                   AND (entry.pipeline, entry.priority, entry.needs) > (kind.pipeline, kind.priority, kind.needs)
                 ORDER BY pipeline, priority, needs LIMIT 1) AS next
         WHERE kind.number < %(kinds)s
    )
"""

_OF_KIND = """
    entry.work_queue = kind.work_queue AND entry.pipeline = kind.pipeline AND entry.priority = kind.priority
    AND entry.needs = kind.needs
"""

# A task that nobody knows waits for somebody who does.
_DUE = f"""
    (entry.resume_after IS NULL OR entry.resume_after <= statement_timestamp()) AND entry.problem <> 'unknown_task'
    AND NOT EXISTS ({_HOLD} AND (hold.scope = 'queue:' || entry.queue
                                 OR (hold.scope = entry.ref AND hold.kind <> 'capacity')
                                 OR hold.scope IN (SELECT 'resource:' || unnest(entry.uses))))
"""

_RANK = """
    CASE WHEN %(ageing)s::float8 <= 0 THEN entry.priority
         ELSE greatest(1, entry.priority - floor(
              extract(epoch FROM statement_timestamp() - entry.paused_at)::float8 / %(ageing)s::float8))
    END::int
"""

_FRONT = f"""
    {_KINDS}
    SELECT kind.work_queue, kind.pipeline, kind.needs::text, min(head.rank)
      FROM kind
     CROSS JOIN LATERAL (
            SELECT {_RANK} AS rank
              FROM (SELECT priority, paused_at, resume_after, problem, queue, ref, uses FROM {_ENTRY} AS entry
                     WHERE {_WAITS} AND {_OF_KIND} ORDER BY paused_at, id LIMIT %(heads)s) AS entry
             WHERE {_DUE} LIMIT 1) AS head
     GROUP BY 1, 2, 3
"""

_FOREMOST = f"""
    {_KINDS}
    SELECT id, work_queue, pipeline, needs::text, priority, extract(epoch FROM paused_at)::float8
      FROM (SELECT head.*, row_number() OVER (PARTITION BY head.work_queue, head.pipeline, head.needs
                                                ORDER BY rank, paused_at, id)
                           AS place
              FROM kind
             CROSS JOIN LATERAL (
                    SELECT entry.id, entry.work_queue, entry.pipeline, entry.needs, entry.priority, entry.paused_at,
                           {_RANK} AS rank
                      FROM {_ENTRY} AS entry
                     WHERE {_WAITS} AND {_OF_KIND} AND {_DUE} ORDER BY entry.paused_at, entry.id LIMIT %(count)s
                   ) AS head) AS placed
     WHERE place <= %(count)s ORDER BY paused_at, id
"""


@dataclass(frozen=True)
class Kind:
    """The most urgent of what waits with these needs for workers of this queue, and may continue now."""

    queue: str
    """Whose workers do it; empty: it is not known."""
    pipeline: str
    needs: Needs
    urgency: int
    """Its priority, with ageing: 1 goes first."""


@dataclass(frozen=True)
class Entry:
    """An entry that may continue now."""

    pk: int
    queue: str
    pipeline: str
    needs: Needs
    priority: int
    paused_at: float
    """Seconds since the epoch."""


def kinds(ageing_seconds: float, queues: Collection[str] | None = None) -> list[Kind]:
    """What a newcomer may have to queue behind: of all queues, or of those named and of what names none.

    Of each kind the first :data:`MOST_HEADS` are looked at: one that may continue now and has more before it that may
    not (their runs are held, say) is not seen. One statement, whatever waits.
    """
    values = {"queues": None if queues is None else sorted(queues), "kinds": MOST_KINDS, "heads": MOST_HEADS}
    rows = rows_of(_FRONT, {**values, "ageing": ageing_seconds})
    return [Kind(queue, pipeline, needs_of(needs), urgency) for queue, pipeline, needs, urgency in rows]


def foremost(count: int, ageing_seconds: float) -> list[Entry]:
    """The first ``count`` of each kind of queue, pipeline and needs, oldest first.

    One step of priority is gained with each ``ageing_seconds``. What comes later of the same kind cannot continue
    before them.
    """
    values = {"queues": None, "kinds": MOST_KINDS_OF_POLL, "count": count, "ageing": ageing_seconds}
    rows = rows_of(_FOREMOST, values)
    return [Entry(pk, queue, pipeline, needs_of(needs), *when) for pk, queue, pipeline, needs, *when in rows]


def queues() -> list[str]:
    """The queues whose workers are to do what waits for room; one look into the index each."""
    rows = rows_of(f"{_QUEUES} SELECT work_queue FROM queues WHERE work_queue IS NOT NULL", {})
    return [row[0] for row in rows]


_known_needs: dict[str, Needs] = {}


def needs_of(stored: str) -> Needs:
    """The needs of an entry, from their JSON; equal ones are one object, which the policy groups by."""
    if stored not in _known_needs:
        _known_needs[stored] = Needs(**orjson.loads(stored))
    return _known_needs[stored]
