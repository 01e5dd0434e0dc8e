"""Parked tasks, counted: by what they wait for, and by queue those that a new worker would start."""

from __future__ import annotations

from collections import Counter

import orjson
from django.db import connection

from pause_manager.models import Hold, PauseQueueEntry, PollState
from pause_manager.pause_queue import outlook
from pause_manager.reasons import ReasonCode
from pause_manager.scopes import RUNS

STARTING = "starting"
"""Nothing keeps them any more: they are sent on within seconds."""

_ENTRY, _HOLD = PauseQueueEntry._meta.db_table, Hold._meta.db_table
_NO_WORKER = f"""
    EXISTS (SELECT FROM {PollState._meta.db_table} AS state CROSS JOIN jsonb_array_elements(state.told) AS listed(one)
             WHERE state.id = 1 AND one->>'code' = '{outlook.NO_WORKER}' AND one->>'queue' = kind.work_queue
               AND one->>'pipeline' = kind.pipeline AND one->'needs' = kind.needs)
"""
REASONS = f"""
    SELECT CASE WHEN kind.waits_for = 'capacity' THEN
                     CASE WHEN {_NO_WORKER} THEN '{outlook.NO_WORKER}' ELSE 'capacity' END
                WHEN kind.waits_for = 'answer' THEN '{ReasonCode.NEEDS_INPUT}'
                WHEN EXISTS (SELECT FROM {_HOLD} WHERE released_at IS NULL AND scope = 'fleet') THEN 'fleet'
                ELSE coalesce((SELECT min(kind) FROM {_HOLD} AS hold
                                WHERE hold.released_at IS NULL AND hold.scope = 'queue:' || kind.queue), '{STARTING}')
           END AS reason, sum(kind.entries)::bigint
      FROM (SELECT waits_for, queue, work_queue, pipeline, needs, count(*) AS entries FROM {_ENTRY}
             WHERE finished_at IS NULL AND ref NOT LIKE '{RUNS}%%'
             GROUP BY waits_for, queue, work_queue, pipeline, needs) AS kind
     GROUP BY reason
"""
UNSERVED = f"""
    SELECT kind.work_queue, count(*) FROM {_ENTRY} AS kind
     WHERE kind.finished_at IS NULL AND kind.waits_for = 'capacity' AND kind.work_queue = ANY(%(queues)s)
       AND (kind.work_queue, kind.pipeline, kind.needs) IN (
            SELECT one->>'queue', one->>'pipeline', one->'needs'
              FROM {PollState._meta.db_table} AS state CROSS JOIN jsonb_array_elements(state.told) AS listed(one)
             WHERE state.id = 1 AND one->>'code' = '{outlook.NO_WORKER}')
     GROUP BY kind.work_queue
"""


def by_reason() -> dict[str, int]:
    """How many parked tasks wait, by the code of what for. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(REASONS, {})
        return {reason: int(count) for reason, count in cursor.fetchall()}


def without_worker() -> Counter[str]:
    """By queue, how much waits for room because no worker serves the queue, runs and tasks, as the last poll saw it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT told::text FROM {PollState._meta.db_table} WHERE id = 1")
        row = cursor.fetchone()
        told = orjson.loads(row[0]) if row else []
        queues = sorted({one["queue"] for one in told if one["code"] == outlook.NO_WORKER})
        if not queues:
            return Counter()
        cursor.execute(UNSERVED, {"queues": queues})
        return Counter(dict(cursor.fetchall()))
