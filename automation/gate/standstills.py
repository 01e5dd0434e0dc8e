"""The times at which nothing of a run could be worked on though no hold kept it: its working clock stood."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models.functions import Now

from automation.gate import delays, file_sharing, installed_code
from automation.models import Standstill
from automation.models.tables import RUN, SLICE, STAGE, STANDSTILL
from pause_manager.reasons import ReasonCode

CODE_MISSING = ReasonCode.CODE_MISSING
NO_FREE_WORKER = ReasonCode.NO_FREE_WORKER
NO_PLACE = ReasonCode.LANE

SHORT_SECONDS = 1
"""A message that finds a worker sooner has not waited."""
CLOSE_SECONDS = 60
"""Waits that follow each other within so long are kept as one, as long as they were together: a run that takes turns
with others for a day leaves one row."""


def keep(code: str, run_ids: Sequence[UUID]) -> None:
    """From now on exactly ``run_ids`` stand still for the reason ``code``, and no others. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, {"code": code, "ids": list(run_ids)})


def note_code_missing() -> None:
    """Note the running runs that have no stage this release can work on."""
    with connection.cursor() as cursor:
        cursor.execute(_WITHOUT_CODE, {"installed": installed_code.keys()})
        run_ids = [row[0] for row in cursor.fetchall()]
    keep(CODE_MISSING, run_ids)


def note_files_not_shared() -> None:
    """Note the running runs whose files not all of those who live have."""
    with connection.cursor() as cursor:
        cursor.execute(_APART, file_sharing.values())
        run_ids = [row[0] for row in cursor.fetchall()]
    keep(file_sharing.NOT_SHARED, run_ids)


def note_without_place(run_ids: Sequence[UUID | str] | None = None) -> None:
    """Note the running runs (of ``run_ids``) that wait for a place in their lane, and are not paused."""
    with connection.cursor() as cursor:
        cursor.execute(
            _WITHOUT_PLACE.format(of="" if run_ids is None else "AND run.id = ANY(%(ids)s::uuid[])"),
            {"ids": [str(pk) for pk in run_ids or ()], "code": NO_PLACE},
        )


def end_without_place(run_id: UUID) -> None:
    """The run has got a place in its lane."""
    running = Standstill.objects.filter(run=run_id, code=NO_PLACE, until__isnull=True)
    running.update(until=Now())


def begin_waiting(stage_run_ids: Sequence[int]) -> None:
    """Messages are out for these stages: until a worker comes, their runs of which nothing is running stand still."""
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_WAITING, {"ids": list(stage_run_ids), "code": NO_FREE_WORKER})


def end_waiting(run_id: UUID) -> None:
    """A worker has come for the run, which is known to wait (:data:`WAITS`)."""
    values: dict[str, Any] = {"run": run_id, "code": NO_FREE_WORKER, "short": SHORT_SECONDS, "close": CLOSE_SECONDS}
    with connection.cursor() as cursor:
        cursor.execute(_END_WAITING, values)


def since(run_id: UUID, code: str) -> datetime | None:
    """Since when the run has stood still for this reason, if it has been noted."""
    now = Standstill.objects.filter(run=run_id, code=code, until__isnull=True)
    return now.values_list("since", flat=True).first()


END_DELAY = f"""
    WITH stood AS (
        SELECT stage.run_id, stage.started_at, {delays.BATCH_ENDED_AT} AS since,
               least({delays.NEXT_BATCH_AT}, statement_timestamp()) AS until
          FROM {STAGE} AS stage
         WHERE stage.id = %s AND {delays.NEXT_BATCH_AT} IS NOT NULL
           AND {delays.ALONE.format(since=delays.BATCH_ENDED_AT, until=delays.NEXT_BATCH_AT)}
    ), before AS (
        DELETE FROM {STANDSTILL} AS one USING stood
         WHERE one.run_id = stood.run_id AND one.code = '{delays.CODE}' AND one.since >= stood.started_at
           AND one.until > stood.since - interval '{CLOSE_SECONDS} seconds'
     RETURNING one.until - one.since AS length
    )
    INSERT INTO {STANDSTILL} (run_id, code, since, until)
    SELECT run_id, '{delays.CODE}', since - coalesce((SELECT sum(length) FROM before), interval '0'), until FROM stood
"""
"""A batch of the stage is handed out: the delay before it, unless another stage ran meanwhile, is over."""

WAITS = f"""
    EXISTS (SELECT FROM {STANDSTILL} WHERE run_id = run.id AND code = '{NO_FREE_WORKER}' AND until IS NULL)
"""
"""SQL over ``run``: it stands still because no worker has come."""

_BEGIN_WAITING = f"""
    INSERT INTO {STANDSTILL} (run_id, code)
    SELECT DISTINCT run_id, %(code)s FROM {STAGE} AS asked
     WHERE id = ANY(%(ids)s) AND NOT EXISTS (
           SELECT FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
            WHERE stage.run_id = asked.run_id AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL)
     ORDER BY run_id
        ON CONFLICT DO NOTHING
"""

_END_WAITING = f"""
    WITH ended AS (
        DELETE FROM {STANDSTILL} WHERE run_id = %(run)s AND code = %(code)s AND until IS NULL
     RETURNING since, statement_timestamp() - since AS length
    ), before AS (
        DELETE FROM {STANDSTILL} AS one USING ended
         WHERE one.run_id = %(run)s AND one.code = %(code)s AND ended.length >= make_interval(secs => %(short)s)
           AND one.until > ended.since - make_interval(secs => %(close)s)
     RETURNING one.until - one.since AS length
    )
    INSERT INTO {STANDSTILL} (run_id, code, since, until)
    SELECT %(run)s, %(code)s,
           statement_timestamp() - ended.length - coalesce((SELECT sum(length) FROM before), interval '0'),
           statement_timestamp()
      FROM ended WHERE ended.length >= make_interval(secs => %(short)s)
"""

_KEEP = f"""
    WITH over AS (
        UPDATE {STANDSTILL} SET until = statement_timestamp()
         WHERE code = %(code)s AND until IS NULL AND NOT run_id = ANY(%(ids)s::uuid[]))
    INSERT INTO {STANDSTILL} (run_id, code)
    SELECT run.id, %(code)s FROM {RUN} AS run
     WHERE run.id = ANY(%(ids)s::uuid[]) AND NOT EXISTS (
           SELECT FROM {STANDSTILL} WHERE run_id = run.id AND code = %(code)s AND until IS NULL)
        ON CONFLICT DO NOTHING
"""

_WITHOUT_PLACE = f"""
    INSERT INTO {STANDSTILL} (run_id, code)
    SELECT run.id, %(code)s FROM {RUN} AS run
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running' AND run.lane_seat_at IS NULL
       AND run.paused_at IS NULL AND run.start_requested_at IS NOT NULL AND run.cancel_requested_at IS NULL {{of}}
       AND NOT EXISTS (SELECT FROM {SLICE} AS slice JOIN {STAGE} AS stage ON stage.id = slice.stage_run_id
                        WHERE stage.run_id = run.id AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL)
        ON CONFLICT DO NOTHING
"""

_APART = f"""
    SELECT run.id FROM {RUN} AS run
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running' AND {file_sharing.APART}
"""

_WITHOUT_CODE = f"""
    SELECT run.id
      FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE stage.lifecycle = 'running' AND run.finished_at IS NULL AND run.lifecycle = 'running'
     GROUP BY run.id HAVING NOT bool_or(coalesce({installed_code.IS_HERE}, false))
"""
