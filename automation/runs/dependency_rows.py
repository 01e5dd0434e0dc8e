"""The rows of dependencies: their only writer. The caller has locked the runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from automation.models import RunDependency
from automation.models.tables import DEPENDENCY, RUN


def add(run_id: UUID, after: Sequence[UUID]) -> int:
    """Have ``run_id`` wait for each of ``after``; what has completed is met at once. Returns how many are new."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {"run": run_id, "after": list(after)})
        return int(cursor.rowcount)


def satisfy(after: UUID) -> set[str]:
    """``after`` has completed: what waits for it need not any more. Returns the lanes of those that waited."""
    with connection.cursor() as cursor:
        cursor.execute(_SATISFY, {"after": after})
        return {row[0] for row in cursor.fetchall()}


def replace(after: UUID, by: UUID) -> list[UUID]:
    """What still waits for ``after`` waits for ``by`` from now on, its retry; returns which runs."""
    with connection.cursor() as cursor:
        cursor.execute(_REPLACE, {"after": after, "by": by})
        return [row[0] for row in cursor.fetchall()]


def release(run_id: UUID, after: UUID, *, actor: str, reason: str) -> bool:
    """``run_id`` need not wait for ``after`` any more; False if it does not."""
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, {"run": run_id, "after": after, "actor": actor, "reason": reason})
        return bool(cursor.rowcount)


def delete(run_id: UUID) -> None:
    """Delete what ``run_id``, which is about to be deleted itself, waited for."""
    RunDependency.objects.filter(run=run_id).delete()


def way(run_id: UUID, after: UUID) -> list[UUID]:
    """The shortest way from ``after`` to ``run_id`` over runs that wait for the next; empty if there is none."""
    with connection.cursor() as cursor:
        cursor.execute(_REACHED, {"after": after})
        waits_for: dict[UUID, list[UUID]] = {}
        for waiting, needed in cursor.fetchall():
            waits_for.setdefault(waiting, []).append(needed)
    ways, seen = deque([[after]]), {after}
    while ways:
        so_far = ways.popleft()
        if so_far[-1] == run_id:
            return so_far
        for needed in waits_for.get(so_far[-1], ()):
            if needed not in seen:
                seen.add(needed)
                ways.append([*so_far, needed])
    return []


_UNMET = "satisfied_at IS NULL AND released_at IS NULL"

_ADD = f"""
    INSERT INTO {DEPENDENCY} (run_id, after_id, satisfied_at)
    SELECT %(run)s, run.id, CASE WHEN run.lifecycle = 'completed' THEN statement_timestamp() END
      FROM unnest(%(after)s::uuid[]) WITH ORDINALITY AS wanted(id, number) JOIN {RUN} AS run ON run.id = wanted.id
     ORDER BY wanted.number
        ON CONFLICT DO NOTHING
"""

_SATISFY = f"""
    WITH met AS (
        UPDATE {DEPENDENCY} SET satisfied_at = statement_timestamp()
         WHERE after_id = %(after)s AND {_UNMET} RETURNING run_id)
    SELECT DISTINCT run.lane FROM met JOIN {RUN} AS run ON run.id = met.run_id WHERE run.finished_at IS NULL
"""

_REPLACE = f"""
    UPDATE {DEPENDENCY} SET after_id = %(by)s WHERE after_id = %(after)s AND {_UNMET} RETURNING run_id
"""

_RELEASE = f"""
    UPDATE {DEPENDENCY}
       SET released_at = statement_timestamp(), released_by = %(actor)s, release_reason = %(reason)s
     WHERE run_id = %(run)s AND after_id = %(after)s AND {_UNMET}
"""

_REACHED = f"""
    WITH RECURSIVE reached(id) AS (
        SELECT %(after)s::uuid
         UNION
        SELECT needed.after_id FROM reached JOIN {DEPENDENCY} AS needed ON needed.run_id = reached.id AND {_UNMET})
    SELECT needed.run_id, needed.after_id
      FROM reached JOIN {DEPENDENCY} AS needed ON needed.run_id = reached.id AND {_UNMET}
"""
