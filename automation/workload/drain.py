"""What keeps the fleet from being drained: slices that are due, leases in force, leases that were lost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from automation import conf
from automation.agents.claiming import OWNER
from automation.gate import standstills
from automation.models import Standstill
from automation.models.tables import ITEM, SLICE, STAGE
from automation.models.work import WorkSlice
from automation.reports.slice_totals import WAITING
from pause_manager import scopes
from pause_manager.database.recent import Recent
from pause_manager.workloads import MOST_BLOCKERS, Blocker, Remaining

HOOKS = {WorkSlice.Phase.PREPARE: "prepare", WorkSlice.Phase.FINISH: "finish"}


def remaining(mode: str) -> Remaining:
    """Four statements, however much there is. Of very many queued slices the figure is of some seconds ago."""
    warnings = _standing_still()
    with connection.cursor() as cursor:
        cursor.execute(_IN_FORCE)
        running, stale = cursor.fetchone()
        queued = _queued_lately()
        if not running and not stale:
            return Remaining(queued, warnings=warnings)
        cursor.execute(_LEASED, {"limit": MOST_BLOCKERS})
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return Remaining(queued, running, stale, tuple(_blocker(row, mode) for row in rows), warnings=warnings)


def _queued() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_QUEUED)
        queued: int = cursor.fetchone()[0]
    return queued


_queued_lately = Recent(_queued, int)


def _standing_still() -> tuple[str, ...]:
    """A warning of runs whose stages are not in the release of the control worker."""
    count = Standstill.objects.filter(code=standstills.CODE_MISSING, until__isnull=True).count()
    what = "1 run waits for a stage that is" if count == 1 else f"{count:,} runs wait for stages that are"
    return (f"{what} not in this release: `manage.py check_runs` lists them.",) if count else ()


def _blocker(row: dict[str, Any], mode: str) -> Blocker:
    return Blocker(
        ref=scopes.run(row["run_id"]),
        stage=row["slug"],
        item=HOOKS.get(row["phase"]) or row["item"] or "",
        worker=row["lease_owner"],
        node=row["lease_node"],
        since=row["leased_at"],
        ends_at=None if row["is_stale"] else _end(row, mode),
        is_stale=row["is_stale"],
    )


def _end(row: dict[str, Any], mode: str) -> datetime | None:
    """When the slice is given back, by its own rate, else that of its stage; ``None`` while neither is known.

    In ``quiesce`` that is after the item in progress, else at the slice's end or after the item at which the time of
    the loop is up. An agent's time is never up.
    """
    done = row["done"] or row["stage_done"]
    if not done or row["phase"] != WorkSlice.Phase.WORK:
        return None
    an_item = (row["busy_seconds"] if row["done"] else row["stage_seconds"]) / done
    now: datetime = row["now"]
    if mode == "quiesce":
        return now + timedelta(seconds=an_item)
    slice_ends = now + timedelta(seconds=an_item * row["left"])
    if row["lease_owner"].startswith(OWNER):
        return slice_ends
    loop_ends: datetime = row["leased_at"] + timedelta(seconds=conf.settings().loop_seconds + an_item)
    return max(now, min(slice_ends, loop_ends))


_QUEUED = f"""
    SELECT coalesce(sum(due), 0)::bigint FROM (
           SELECT DISTINCT ON (stage_run_id) due
             FROM ({WAITING} AND run.lifecycle = 'running' AND run.cancel_requested_at IS NULL) AS waiting
            ORDER BY stage_run_id, phase) AS first
"""

_IN_FORCE = f"""
    SELECT count(*) FILTER (WHERE lease_expires_at >= statement_timestamp()),
           count(*) FILTER (WHERE lease_expires_at < statement_timestamp())
      FROM {SLICE} WHERE lease_token IS NOT NULL AND finished_at IS NULL
"""

_LEASED = f"""
    SELECT stage.run_id, stage.slug, slice.phase, slice.lease_owner, slice.lease_node, slice.leased_at,
           slice.lease_expires_at < statement_timestamp() AS is_stale, item.key AS item,
           slice.processed + slice.failed AS done, slice.size - slice.processed - slice.failed AS left,
           slice.busy_seconds, so_far.done AS stage_done, so_far.seconds AS stage_seconds, statement_timestamp() AS now
      FROM {SLICE} AS slice JOIN {STAGE} AS stage ON stage.id = slice.stage_run_id
      LEFT JOIN LATERAL (
            SELECT key FROM {ITEM}
             WHERE made_by_id = slice.source_id AND key >= slice.first_key AND key > slice.cursor
               AND key <= slice.last_key
             ORDER BY key LIMIT 1) AS item ON true
     CROSS JOIN LATERAL (
            SELECT sum(processed + failed) AS done, sum(busy_seconds) AS seconds FROM (
                SELECT processed, failed, busy_seconds FROM {SLICE}
                 WHERE stage_run_id = slice.stage_run_id ORDER BY phase, ordinal LIMIT 100) AS sample) AS so_far
     WHERE slice.lease_token IS NOT NULL AND slice.finished_at IS NULL
     ORDER BY slice.leased_at, slice.id LIMIT %(limit)s
"""
