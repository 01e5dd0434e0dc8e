"""One item (or group) is taken out of a leased slice into a slice of its own, so that what comes after it continues.

It is done for an item that waits, and for one on which loops were lost. The new slice is the last of its stage. Part of
``leases``, which calls it in a transaction that has locked the stage: two never get the same ordinal.
"""

from __future__ import annotations

from typing import Any

from automation.items.leased_slice import LeasedSlice
from automation.models.tables import ITEM, SLICE


def split_off_first(
    cursor: Any, work: LeasedSlice, group_size: int, *, seconds: float | None = None, why: str = ""
) -> bool:
    """Set the item after the cursor of ``work`` apart, with what is known of it; False if ``work`` is no longer held.

    With ``seconds`` it waits for so long, because of ``why``. The cursor of ``work`` moves past it.
    """
    cursor.execute(
        _SET_APART,
        {
            "slice": work.slice_id,
            "token": work.token,
            "stage": work.stage_run_id,
            "phase": work.phase,
            "source": work.source_id,
            "first": work.first_key,
            "cursor": work.cursor,
            "last": work.last_key,
            "group": group_size,
            "crashes": work.crashes,
            "expiries": work.expiries,
            "overrun_key": work.overrun_key,
            "overrun_attempts": work.overrun_attempts,
            "waits": 0 if seconds is None else 1,
            "seconds": seconds,
            "why": why,
        },
    )
    row = cursor.fetchone()
    if row is None:
        return False
    work.cursor, taken = row
    work.size -= taken
    work.crashes = work.expiries = work.waits = 0
    work.waited_seconds = 0.0
    return True


_SET_APART = f"""
    WITH unit AS (
        SELECT min(key) AS first_key, max(key) AS last_key, count(*)::int AS size
          FROM (SELECT key FROM {ITEM}
                 WHERE made_by_id = %(source)s AND key >= %(first)s AND key > %(cursor)s AND key <= %(last)s
                 ORDER BY key LIMIT %(group)s) AS next
    ), moved AS (
        UPDATE {SLICE} AS slice
           SET cursor = unit.last_key, size = slice.size - unit.size, crashes = 0, expiries = 0,
               waits = 0, waited_seconds = 0, waits_for = ''
          FROM unit
         WHERE slice.id = %(slice)s AND slice.lease_token = %(token)s AND slice.cursor = %(cursor)s
     RETURNING unit.first_key, unit.last_key, unit.size
    ), made AS (
        INSERT INTO {SLICE} (stage_run_id, phase, ordinal, source_id, first_key, last_key, size, is_begun,
                             cursor, processed, failed, busy_seconds, crashes, expiries,
                             overrun_key, overrun_attempts, waits, waited_seconds, waits_for, available_at,
                             lease_owner, lease_node, lease_gpus, lease_yield)
        SELECT %(stage)s, %(phase)s,
               (SELECT max(ordinal) + 1 FROM {SLICE} WHERE stage_run_id = %(stage)s AND phase = %(phase)s),
               %(source)s, first_key, last_key, size, true, '', 0, 0, 0, %(crashes)s, %(expiries)s,
               %(overrun_key)s, %(overrun_attempts)s, %(waits)s, coalesce(%(seconds)s::float8, 0), %(why)s,
               clock_timestamp() + make_interval(secs => %(seconds)s::float8),
               '', '', '{{}}', ''
          FROM moved
    )
    SELECT last_key, size FROM moved
"""
