"""What waits for a loop, from the counts that are kept: however much there is, it costs a look for each stage."""

from __future__ import annotations

from automation.leases import RUN, SLICE, STAGE
from automation.work import OpenSlices

WAITING = f"""
    SELECT open.stage_run_id, open.phase, open.open - at.leased - at.later AS due, at.later
      FROM {RUN} AS run
      JOIN {STAGE} AS stage ON stage.run_id = run.id AND stage.lifecycle = 'running'
      JOIN {OpenSlices._meta.db_table} AS open ON open.stage_run_id = stage.id AND open.open > 0
     CROSS JOIN LATERAL (
            SELECT (SELECT count(*) FROM {SLICE} AS slice
                     WHERE slice.stage_run_id = stage.id AND slice.phase = open.phase
                       AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL) AS leased,
                   (SELECT count(*) FROM {SLICE} AS slice
                     WHERE slice.stage_run_id = stage.id AND slice.phase = open.phase AND slice.lease_token IS NULL
                       AND slice.available_at > statement_timestamp() AND slice.finished_at IS NULL) AS later) AS at
     WHERE run.finished_at IS NULL
"""
"""By running stage and phase, the slices that a loop could lease now, and those that are to wait (``due``, ``later``).

SQL that further conditions on ``run`` may follow.
"""
