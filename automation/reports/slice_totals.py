"""Slices that wait and items that are done, from stored totals instead of counting slices.

The cost is one look-up per stage and per unfinished slice that was begun, however many slices there are.
"""

from __future__ import annotations

from django.db import connection

from automation.models.tables import RUN, SLICE, SLICE_TOTALS, STAGE

WAITING = f"""
    SELECT totals.stage_run_id, totals.phase, totals.open - at.leased - at.later AS due, at.later
      FROM {RUN} AS run
      JOIN {STAGE} AS stage ON stage.run_id = run.id AND stage.lifecycle = 'running'
      JOIN {SLICE_TOTALS} AS totals ON totals.stage_run_id = stage.id AND totals.open > 0
     CROSS JOIN LATERAL (
            SELECT (SELECT count(*) FROM {SLICE} AS slice
                     WHERE slice.stage_run_id = stage.id AND slice.phase = totals.phase
                       AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL) AS leased,
                   (SELECT count(*) FROM {SLICE} AS slice
                     WHERE slice.stage_run_id = stage.id AND slice.phase = totals.phase AND slice.lease_token IS NULL
                       AND slice.available_at > statement_timestamp() AND slice.finished_at IS NULL) AS later) AS at
     WHERE run.finished_at IS NULL
"""
"""By running stage and phase, the slices that a loop can lease now (``due``) and later (``later``).

SQL; further conditions on ``run`` may follow.
"""

DONE = f"""
    SELECT sum(part.processed)::bigint AS processed, sum(part.failed)::bigint AS failed FROM (
        SELECT coalesce(sum(processed), 0) AS processed, coalesce(sum(failed), 0) AS failed
          FROM {SLICE_TOTALS} WHERE stage_run_id = stage.id
         UNION ALL
        SELECT coalesce(sum(processed), 0), coalesce(sum(failed), 0)
          FROM {SLICE} AS slice
         WHERE slice.stage_run_id = stage.id AND slice.is_begun AND slice.finished_at IS NULL) AS part
"""
"""SQL over ``stage``: how many of its items are ``processed`` and how many have ``failed``."""


def done(stage_run_id: int) -> tuple[int, int]:
    """Return how many items of the stage are processed, and how many have failed."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT done.* FROM {STAGE} AS stage CROSS JOIN LATERAL ({DONE}) AS done WHERE stage.id = %s",
            [stage_run_id],
        )
        processed, failed = cursor.fetchone()
    return processed, failed
