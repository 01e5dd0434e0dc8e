"""Which content has which name: the only writer of :class:`Artifact`, fenced like all that ``leases`` does.

A content is written under a name of its own that nobody knows. That it takes its place is one statement, which changes
nothing unless the slice is still held under its token: a worker that has lost its lease replaces nothing, and readers
get the old or the new, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from django.db import IntegrityError, connection

from automation.errors import LeaseLost
from automation.files.place import Place
from automation.files.storage import StorageAway
from automation.models import AutomationRun
from automation.models.files import Artifact
from automation.models.tables import ARTIFACT, RUN, SLICE

TRIES = 10
"""Holders of two slices that write one name at the same time take turns."""


class Lease(Protocol):
    """A slice that is held, and the fencing token that proves it."""

    @property
    def slice_id(self) -> int: ...

    @property
    def token(self) -> int: ...


@dataclass(frozen=True)
class Stored:
    """The content that a name has now."""

    location: str
    size: int
    written_at: datetime


def find(run_id: UUID, stage_slug: str, name: str) -> Stored | None:
    """Return the current content of the name, if there is one."""
    found = find_all(run_id, stage_slug, [name])
    return found.get(name)


def find_all(run_id: UUID, stage_slug: str, names: Iterable[str]) -> dict[str, Stored]:
    """Return the current contents of those of ``names`` that have one. One statement."""
    rows = Artifact.objects.filter(
        stage_run__run=run_id, stage_run__slug=stage_slug, name__in=list(names), is_current=True
    )
    found = rows.values_list("name", "location", "size", "written_at")
    return {name: Stored(location, size or 0, at) for name, location, size, at in found if at is not None}


def bind(work: Lease, run_id: UUID, place: Place) -> None:
    """From the run's first file on they are kept in ``place``. Raises ``StorageAway`` if they are elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute(_BIND, {"run": run_id, "slice": work.slice_id, "token": work.token, "storage": place.id})
        if cursor.rowcount:
            return
    kept = AutomationRun.objects.filter(pk=run_id).values_list("storage", flat=True).first()
    if kept == place.id:
        return
    if not kept:
        raise _lost(work)
    raise StorageAway(
        f"Cannot use files of this run here: they are in another storage than {place.name}, which this worker has."
    )


def reserve(work: Lease, name: str, location: str) -> int:
    """Note that ``location`` is about to be written for ``name``, so that it is found again if nobody uses it."""
    with connection.cursor() as cursor:
        cursor.execute(_RESERVE, {"slice": work.slice_id, "token": work.token, "name": name, "location": location})
        row = cursor.fetchone()
    if row is None:
        raise _lost(work)
    return int(row[0])


def publish(work: Lease, artifact_id: int, name: str, location: str, size: int) -> None:
    """From now on ``name`` has the content at ``location``, of ``size`` bytes. Raises :class:`LeaseLost`."""
    values: dict[str, Any] = {
        "slice": work.slice_id,
        "token": work.token,
        "id": artifact_id,
        "name": name,
        "location": location,
        "size": size,
    }
    for left in reversed(range(TRIES)):
        try:
            with connection.cursor() as cursor:
                cursor.execute(_PUBLISH, values)
                if not cursor.rowcount:
                    raise _lost(work)
                return
        except IntegrityError:
            if not left:
                raise


def remove(work: Lease, name: str) -> bool:
    """Let ``name`` have no content; whether it had one. Raises :class:`LeaseLost`."""
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE, {"slice": work.slice_id, "token": work.token, "name": name})
        is_held, removed = cursor.fetchone()
    if not is_held:
        raise _lost(work)
    return bool(removed)


def _lost(work: Lease) -> LeaseLost:
    return LeaseLost(f"Cannot write files for slice {work.slice_id}: it is no longer held under token {work.token}.")


_HELD = f"""
    held AS MATERIALIZED (
        SELECT stage_run_id FROM {SLICE} WHERE id = %(slice)s AND lease_token = %(token)s FOR SHARE)
"""

# Not after the slice, whose holder would have it while it waits for the run: the holder of the run waits for slices.
_BIND = f"""
    UPDATE {RUN} SET storage = %(storage)s
     WHERE id = %(run)s AND storage = ''
       AND EXISTS (SELECT FROM {SLICE} WHERE id = %(slice)s AND lease_token = %(token)s)
"""

_RESERVE = f"""
    INSERT INTO {ARTIFACT} (stage_run_id, name, location, token, is_current)
    SELECT stage_run_id, %(name)s, %(location)s, lease_token, false
      FROM {SLICE} WHERE id = %(slice)s AND lease_token = %(token)s
 RETURNING id
"""

_REPLACED = f"""
    replaced AS (
        UPDATE {ARTIFACT} AS artifact SET is_current = false, replaced_at = clock_timestamp()
          FROM held
         WHERE artifact.stage_run_id = held.stage_run_id AND artifact.name = %(name)s AND artifact.is_current
     RETURNING 1)
"""

_PUBLISH = f"""
    WITH {_HELD}, {_REPLACED}
    UPDATE {ARTIFACT} AS artifact
       SET is_current = true, location = %(location)s, size = %(size)s, written_at = clock_timestamp()
      FROM held, (SELECT count(*) FROM replaced) AS before
     WHERE artifact.id = %(id)s AND artifact.stage_run_id = held.stage_run_id
"""

_REMOVE = f"""
    WITH {_HELD}, {_REPLACED}
    SELECT EXISTS (SELECT FROM held), EXISTS (SELECT FROM replaced)
"""
