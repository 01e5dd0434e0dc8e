"""The line of tasks before a resource: those in the pause queue that only it keeps, in the order they are sent on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.resources.limits import RESOURCE

MEASURED_SECONDS = 600
"""How far back the tasks are counted that a rate is measured from."""
FEWEST_TASKS = 5
"""A rate is not known from fewer."""

_ENTRY, _HOLD = PauseQueueEntry._meta.db_table, Hold._meta.db_table

HELD = f"SELECT scope::text FROM {_HOLD} WHERE released_at IS NULL"
"""SQL: the scopes that are held. A statement with :func:`in_line` has it as ``held``."""


def in_line(name: str) -> str:
    """SQL over ``entry``: it waits for the resource ``name``, and nothing else keeps it."""
    return f"""
        entry.finished_at IS NULL AND entry.waits_for = 'hold' AND {name} = ANY(entry.uses)
        AND entry.problem <> 'unknown_task'
        AND (entry.resume_after IS NULL OR entry.resume_after <= statement_timestamp())
        AND 'queue:' || entry.queue NOT IN (SELECT scope FROM held)
        AND NOT (cardinality(entry.uses) > 1 AND EXISTS (
                SELECT FROM unnest(entry.uses) AS used(name)
                 WHERE used.name <> {name} AND 'resource:' || used.name IN (SELECT scope FROM held)))
    """


@dataclass(frozen=True)
class Place:
    """Where a task is in the line of the resource that it waits for longest."""

    position: int
    resource: str
    expected_start: datetime | None


def place_of(entry: PauseQueueEntry, names: Collection[str]) -> Place | None:
    """The place of ``entry`` before the resources ``names``, which keep it; ``None`` if it is in no line of theirs.

    Of several the last place counts.
    """
    if not names:
        return None
    with connection.cursor() as cursor:
        given: dict[str, Any] = {
            "id": entry.pk,
            "names": sorted(names),
            "measured": MEASURED_SECONDS,
            "fewest": FEWEST_TASKS,
        }
        cursor.execute(_PLACES, given)
        found = [Place(position, name, expected) for name, position, expected in cursor.fetchall()]
    if not found:
        return None
    last = max(found, key=lambda place: place.position)
    times = [place.expected_start for place in found]
    return Place(last.position, last.resource, None if None in times else max(at for at in times if at is not None))


def first(name: str, at_most: int) -> list[int]:
    """The ids of the entries that are first in line. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, {"name": name, "at_most": at_most})
        return [row[0] for row in cursor.fetchall()]


def lengths(names: Collection[str]) -> dict[str, int]:
    """How many tasks wait that use each, whatever keeps them. One statement."""
    if not names:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_LENGTHS, {"names": sorted(names)})
        return dict(cursor.fetchall())


_PLACES = f"""
    WITH held AS MATERIALIZED ({HELD}),
         own AS MATERIALIZED (
             SELECT asked.name, entry.priority, entry.paused_at, entry.id
               FROM {_ENTRY} AS entry CROSS JOIN unnest(%(names)s::text[]) AS asked(name)
              WHERE entry.id = %(id)s AND {in_line("asked.name")}),
         placed AS MATERIALIZED (
             SELECT own.name, 1 + (
                    SELECT count(*) FROM {_ENTRY} AS entry
                     WHERE {in_line("own.name")}
                       AND (entry.priority, entry.paused_at, entry.id) < (own.priority, own.paused_at, own.id)
                    ) AS position
               FROM own)
    SELECT own.name, own.position,
           CASE WHEN EXISTS (SELECT FROM held WHERE scope = 'resource:' || own.name) THEN (
                     SELECT resource.next_probe_at FROM {RESOURCE} AS resource
                      WHERE resource.name = own.name AND resource.state = 'held' AND own.position = 1
                        AND NOT EXISTS (SELECT FROM {_HOLD} AS hold WHERE hold.released_at IS NULL
                                           AND hold.scope = 'resource:' || own.name AND hold.kind <> 'throttled'))
                WHEN measured.tasks < %(fewest)s THEN NULL
                ELSE statement_timestamp() + make_interval(secs => own.position * measured.seconds / measured.tasks)
           END
      FROM placed AS own
     CROSS JOIN LATERAL (
            SELECT count(*) AS tasks,
                   extract(epoch FROM statement_timestamp() - min(entry.confirmed_at))::float8 AS seconds
              FROM {_ENTRY} AS entry
             WHERE entry.finished_at IS NOT NULL AND entry.outcome = 'sent' AND own.name = ANY(entry.uses)
               AND (CASE WHEN entry.outcome = 'sent' THEN entry.confirmed_at ELSE entry.finished_at END)
                   > statement_timestamp() - make_interval(secs => %(measured)s)) AS measured
"""

_FIRST = f"""
    WITH held AS MATERIALIZED ({HELD})
    SELECT entry.id FROM {_ENTRY} AS entry WHERE {in_line("%(name)s")}
     ORDER BY entry.priority, entry.paused_at, entry.id LIMIT %(at_most)s
"""

_LENGTHS = f"""
    SELECT used.name, count(*)::int
      FROM {_ENTRY} AS entry CROSS JOIN LATERAL unnest(entry.uses) AS used(name)
     WHERE entry.finished_at IS NULL AND entry.uses <> '{{}}' AND used.name = ANY(%(names)s::text[])
     GROUP BY used.name
"""
