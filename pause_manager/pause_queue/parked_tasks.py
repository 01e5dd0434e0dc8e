"""Parked tasks, counted: by what they wait for, and by queue those that a new worker would start."""

from __future__ import annotations

from collections import Counter

import orjson
from django.db import connection

from pause_manager.models import Hold, PauseQueueEntry, PollState
from pause_manager.pause_queue import outlook
from pause_manager.reasons import ORDER, ReasonCode
from pause_manager.resources import places
from pause_manager.scopes import RUNS

STARTING = "starting"
"""Nothing keeps them any more: they are sent on within seconds."""

_ENTRY, _HOLD = PauseQueueEntry._meta.db_table, Hold._meta.db_table
_NO_WORKER = f"""
    EXISTS (SELECT FROM {PollState._meta.db_table} AS state CROSS JOIN jsonb_array_elements(state.told) AS listed(one)
             WHERE state.id = 1 AND one->>'code' = '{outlook.NO_WORKER}' AND one->>'queue' = kind.work_queue
               AND one->>'pipeline' = kind.pipeline AND one->'needs' = kind.needs)
"""
# As ``explanation`` finds the first reason of one entry, but for nodes that are all held; the limits of resources, of
# which there are few, are added by ``by_reason``.
REASONS = f"""
    SELECT CASE WHEN kind.waits_for = 'answer' THEN '{ReasonCode.NEEDS_INPUT}'
                WHEN held.code IS NOT NULL THEN held.code
                WHEN kind.is_later THEN '{ReasonCode.NOT_BEFORE}'
                WHEN kind.waits_for = 'hold' THEN '{STARTING}'
                WHEN {_NO_WORKER} THEN '{outlook.NO_WORKER}'
                ELSE 'capacity'
           END AS reason, held.code IS NULL AND kind.waits_for = 'hold' AS is_free, kind.uses, sum(kind.entries)::bigint
      FROM (SELECT waits_for, coalesce(nullif(work_queue, ''), queue) AS work_queue, pipeline, needs, uses,
                   coalesce(resume_after > statement_timestamp(), false) AS is_later, count(*) AS entries FROM {_ENTRY}
             WHERE finished_at IS NULL AND ref NOT LIKE '{RUNS}%%'
             GROUP BY 1, 2, 3, 4, 5, 6) AS kind
      LEFT JOIN LATERAL (
            SELECT CASE WHEN hold.scope = 'fleet' THEN 'fleet' ELSE hold.kind END AS code FROM {_HOLD} AS hold
             WHERE hold.released_at IS NULL AND hold.kind <> 'capacity'
               AND hold.scope = ANY(ARRAY['fleet', 'queue:' || kind.work_queue]
                                    || ARRAY(SELECT 'resource:' || used FROM unnest(kind.uses) AS used))
             ORDER BY hold.scope <> 'fleet', array_position(%(order)s::text[], hold.kind::text), hold.created_at
             LIMIT 1) AS held ON kind.waits_for <> 'answer'
     GROUP BY 1, 2, 3
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
    """How many parked tasks wait, by the code of what for: the first reason of ``explanation``. A constant number of
    statements.
    """
    with connection.cursor() as cursor:
        cursor.execute(REASONS, {"order": list(ORDER)})
        rows = cursor.fetchall()
    used = {name for _, is_free, uses, _ in rows if is_free for name in uses}
    short = places.what_is_short(sorted(used)) if used else {}
    found: Counter[str] = Counter()
    for reason, is_free, uses, count in rows:
        is_short = is_free and not short.keys().isdisjoint(uses)
        found[ReasonCode.RESOURCE.value if is_short else reason] += int(count)
    return dict(found)


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
