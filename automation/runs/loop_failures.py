"""Loops that fail without an item being to blame: counted by stage, told, and at some time the end of the run.

A stage that cannot be made or set up, items that cannot be read, a fault of ours: the next loop is sent for later and
later. When as many as the stage allows have failed, and no other loop works on it, the run fails with the error, or a
person is asked.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from automation.models import StageRun, WorkSlice
from automation.models.tables import STAGE
from automation.pipeline import definition
from automation.runs import failing, questions
from automation.runs.questions import Asking, Kind
from pause_manager.actor import SYSTEM
from pause_manager.observability import audit

LONGEST_PAUSE = 60.0
MAX_ERROR = 2_000


def record(stage_run: StageRun, error: BaseException, *, worker: str, retries: int, has_progressed: bool) -> None:
    """Count a loop that failed with ``error``. Those that fail together, before the next is sent for, count as one.

    One that ``has_progressed`` is the first of a new row.
    """
    told = f"{type(error).__name__}: {error}".replace("\x00", "")[:MAX_ERROR].encode(errors="replace").decode()
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNT, {"stage": stage_run.pk, "error": told, "progressed": has_progressed, "longest": LONGEST_PAUSE}
        )
        row: tuple[int, datetime] | None = cursor.fetchone()
    if row is not None:
        _tell(stage_run, *row, told, worker=worker, retries=retries)
    elif has_progressed:
        return
    # The last of those that failed together ends the run: while the first was counted, the others were running.
    failures = row[0] if row is not None else _count_of(stage_run.pk)
    if failures > retries and not WorkSlice.objects.leased().filter(stage_run=stage_run).exists():
        how_many = "a loop failed" if failures == 1 else f"{failures} loops failed in a row"
        if definition.of(stage_run).asks_when_exhausted:
            questions.ask(
                stage_run, Asking(Kind.LOOPS, f"{how_many.capitalize()}.", error=told, attempts=failures), worker=worker
            )
            return
        failing.fail(stage_run.run_id, reason=f"{stage_run.slug}: {how_many}: {told}")


def _tell(stage_run: StageRun, failures: int, retry_at: datetime, told: str, *, worker: str, retries: int) -> None:
    audit.record(
        "loop_failed",
        scope=stage_run.run.scope,
        actor=SYSTEM,
        reason=f"{stage_run.slug}: a loop failed, time {failures}: {told}",
        details={
            "stage": stage_run.slug,
            "failures": failures,
            "allowed": retries + 1,
            "worker": worker,
            "next_at": retry_at.isoformat(),
        },
    )


def _count_of(stage_run_id: int) -> int:
    return StageRun.objects.filter(pk=stage_run_id).values_list("loop_failures", flat=True).first() or 0


def forget(stage_run_id: int) -> None:
    """A loop has worked: those that failed before say nothing any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {STAGE} SET loop_failures = 0, loop_error = '', loop_retry_at = NULL "
            f"WHERE id = %s AND loop_failures > 0",
            [stage_run_id],
        )


_COUNT = f"""
    UPDATE {STAGE}
       SET loop_failures = counted.number, loop_error = %(error)s,
           loop_retry_at = clock_timestamp()
                           + make_interval(secs => least(2 ^ least(counted.number - 1, 30), %(longest)s))
      FROM (SELECT id, CASE WHEN %(progressed)s THEN 1 ELSE loop_failures + 1 END AS number FROM {STAGE}
             WHERE id = %(stage)s FOR NO KEY UPDATE) AS counted
     WHERE {STAGE}.id = counted.id AND lifecycle = 'running'
       AND (loop_retry_at IS NULL OR loop_retry_at <= clock_timestamp())
 RETURNING loop_failures, loop_retry_at
"""
