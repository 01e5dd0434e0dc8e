"""Removes the rows and files of deleted runs: slices, failures, items, files, last the run. The only deleter of rows.

It works in small batches, each found by an index and in a transaction of its own, so that nothing waits for it; after a
crash it continues. Slices go first: from then on no worker can add anything. The run's row goes last, since the rest is
found by it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import connection, transaction

from automation.files import names, place
from automation.files.storage import StorageAway, delete_under, used
from automation.items.partial_items import CHUNKS_AT_ONCE
from automation.models import (
    AutomationRun,
    ItemChunk,
    ItemState,
    SliceTotals,
    StageRun,
    Ticket,
    WorkSlice,
)
from automation.models.tables import ARTIFACT, ITEM, ITEM_CHUNK, ITEM_FAILURE, QUESTION, RUN, SLICE, STAGE, STANDSTILL
from automation.retention.deletion import PURGED
from automation.runs import dependency_rows
from pause_manager import database, scopes
from pause_manager.actor import SYSTEM, Actor
from pause_manager.observability import audit

logger = logging.getLogger("automation.purge")

BATCH = 5_000
"""Most rows that one statement deletes."""


@dataclass
class Purged:
    """Counts of removed rows and files."""

    runs: int = 0
    slices: int = 0
    failures: int = 0
    items: int = 0
    files: int = 0
    longest_seconds: float = field(default=0.0, compare=False)
    """Of one batch: the longest that another transaction waits."""

    @property
    def rows(self) -> int:
        return self.slices + self.failures + self.items


def purge(
    *,
    actor: Actor = SYSTEM,
    seconds: float | None = None,
    rest: float = 0.0,
    on_progress: Callable[[Purged], None] | None = None,
) -> Purged:
    """Remove what is left of deleted runs, in order of deletion.

    After ``seconds`` no further batch begins. After each batch it sleeps ``rest`` times the batch's duration, and calls
    ``on_progress`` with the counts so far.
    """
    gone = Purged()
    ends_at = None if seconds is None else time.monotonic() + seconds
    begun = time.monotonic()
    for _ in _batches(gone, actor):
        taken = time.monotonic() - begun
        gone.longest_seconds = max(gone.longest_seconds, taken)
        if on_progress is not None:
            on_progress(gone)
        if ends_at is not None and time.monotonic() >= ends_at:
            break
        time.sleep(rest * taken)
        begun = time.monotonic()
    return gone


def _batches(gone: Purged, actor: Actor) -> Iterator[None]:
    """Remove one batch per step. A run that cannot be removed now does not keep others."""
    deleted = AutomationRun.objects.filter(deleted_at__isnull=False)
    failed: list[UUID] = []
    while pks := list(deleted.exclude(pk__in=failed).order_by("deleted_at").values_list("pk", flat=True)[:100]):
        for pk in pks:
            try:
                yield from _batches_of(pk, gone, actor)
            except Exception as error:
                if database.is_away(error):
                    raise
                if isinstance(error, StorageAway):
                    logger.warning("Run %s will be purged later. %s", pk, error)
                    failed.append(pk)
                    continue
                logger.exception("Run %s could not be purged; continuing with the others.", pk)
                failed.append(pk)


def _batches_of(run_id: UUID, gone: Purged, actor: Actor) -> Iterator[None]:
    stage_runs = list(StageRun.objects.filter(run=run_id).order_by("-position").values_list("pk", flat=True))
    for stage_run in stage_runs:
        for phase in WorkSlice.Phase:
            for rows in _by_key(SLICE, f"stage_run_id = %(of)s AND phase = {phase.value}", "ordinal", stage_run):
                gone.slices += rows
                yield
    # Before the rows that name them: files that cannot be deleted now are not forgotten.
    for files in _delete_files(run_id):
        gone.files += files
        yield
    for stage_run in stage_runs:
        for rows in _by_key(ITEM_FAILURE, "stage_run_id = %(of)s", "key", stage_run):
            gone.failures += rows
            yield
        for which, key in (("is_current", "name"), ("NOT is_current", "id")):
            for _ in _by_key(ARTIFACT, f"stage_run_id = %(of)s AND {which}", key, stage_run):
                yield
        for _ in _by_key(ITEM_CHUNK, "stage_run_id = %(of)s", "id", stage_run, size=CHUNKS_AT_ONCE):
            yield
        for rows in _by_key(ITEM, "made_by_id = %(of)s", "key", stage_run):
            gone.items += rows
            yield
    gone.runs += _delete_run(run_id, actor)
    yield


def _by_key(table: str, where: str, key: str, of: int, size: int | None = None) -> Iterator[int]:
    """Delete the rows with ``where`` in order of the unique index that ends with ``key``; yields the count per batch.

    Each batch begins after the last key of the one before, so that deleted rows are not scanned again.
    """
    after: Any = None
    size = BATCH if size is None else size
    while True:
        beyond = "" if after is None else f"AND {key} > %(after)s"
        with connection.cursor() as cursor:
            cursor.execute(
                _BATCH.format(table=table, where=f"{where} {beyond}", key=key),
                {"of": of, "size": size, "after": after},
            )
            rows, after = cursor.fetchone()
        if rows:
            yield rows
        if rows < size:
            return


def _delete_files(run_id: UUID) -> Iterator[int]:
    """Delete the files of the run, unnamed ones included; yields how many, a few at a time.

    Raises ``StorageAway`` if they are in another storage than this process has, since they must not be forgotten.
    """
    kept = AutomationRun.objects.filter(pk=run_id).values_list("storage", flat=True).first()
    if kept and kept != (here := place.here()).id:
        raise StorageAway(
            f"Cannot delete the files of run {run_id}: they are in another storage than {here.name}, "
            "which this worker has (docs/howto/storage.md says how to move one)."
        )
    with used(default_storage):
        yield from delete_under(default_storage, names.folder(run_id))


def _delete_run(run_id: UUID, actor: Actor) -> int:
    """Delete the rest: stages, their counts and messages, standstills, questions, the run; its last event stays."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {RUN} WHERE id = %s AND deleted_at IS NOT NULL FOR UPDATE", [run_id])
        if cursor.fetchone() is None:
            return 0
        audit.record(PURGED, scope=scopes.run(run_id), actor=actor, reason="nothing is left of it but its events")
        cursor.execute(f"UPDATE {RUN} SET retry_of_id = NULL WHERE retry_of_id = %s", [run_id])
        for table in (model._meta.db_table for model in (Ticket, SliceTotals, ItemState, ItemChunk)):
            cursor.execute(
                f"DELETE FROM {table} WHERE stage_run_id IN (SELECT id FROM {STAGE} WHERE run_id = %s)", [run_id]
            )
        for table in (STANDSTILL, QUESTION, STAGE):
            cursor.execute(f"DELETE FROM {table} WHERE run_id = %s", [run_id])
        dependency_rows.delete(run_id)
        cursor.execute(f"DELETE FROM {RUN} WHERE id = %s", [run_id])
        return int(cursor.rowcount)


_BATCH = """
    WITH chosen AS MATERIALIZED (
        SELECT {key} AS key FROM {table} WHERE {where} ORDER BY {key} LIMIT %(size)s
    ), deleted AS (
        DELETE FROM {table} WHERE {where} AND {key} <= (SELECT max(key) FROM chosen) RETURNING 1
    )
    SELECT (SELECT count(*) FROM deleted), (SELECT max(key) FROM chosen)
"""
