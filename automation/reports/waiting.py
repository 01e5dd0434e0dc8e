"""What unfinished runs wait for, counted: each by the first reason that ``gate.explain`` has for it.

Counted are runs that are to proceed and that nobody works on: pending with a requested start, or running with
work to do and nothing leased. A test compares with ``explain``. Stages are looked at for those runs alone whose reason
nothing else decides, so a backlog of 100,000 costs a look at their rows.
"""

from __future__ import annotations

from typing import Any

import orjson
from django.db import connection

from automation import conf, gate
from automation.gate import (
    delays,
    dependencies,
    file_sharing,
    idle_reasons,
    installed_code,
    lane_order,
    problems,
    resource_limits,
    standstills,
)
from automation.gate.explanation import COPYING
from automation.gate.predicate import ALL_NODES_HELD
from automation.models import Agent, Lane
from automation.models.tables import DEPENDENCY, RUN, SLICE, STAGE, TICKET
from automation.pipeline import AGENT, all_pipelines
from automation.pipeline.definition import INTERFACE, QUEUE
from pause_manager import conf as pause_conf
from pause_manager.models import Hold, PauseQueueEntry, PollState
from pause_manager.nodes import serving
from pause_manager.pause_queue import outlook
from pause_manager.reasons import ORDER

STARTING = "starting"
"""The reason of those that nothing keeps: they begin within seconds."""


def by_reason() -> dict[str, int]:
    """How many runs wait, by the code of their first reason. A constant number of statements."""
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT, values())
        return dict(cursor.fetchall())


def values() -> dict[str, Any]:
    """What the statement is given."""
    served, told = _served()
    return {
        **gate.values(),
        "order": list(ORDER),
        "served": sorted(served),
        "is_told": bool(served) or not serving.is_any(),
        "control": pause_conf.settings().control_queue,
        "known": orjson.dumps(told).decode(),
        "slugs": orjson.dumps(_slugs()).decode(),
        "aliases": orjson.dumps({name: installed_code.aliases([name]) for name in _slugs()}).decode(),
        "gone_seconds": pause_conf.settings().gone_seconds,
        "busy_seconds": idle_reasons.WAITS_SECONDS,
        "often": conf.settings().verdict_crashes - 1,
    }


def _served() -> tuple[set[str], dict[str, list[str]]]:
    """The queues that live workers serve; and of those whose workers all tell, the pipelines that any of them knows."""
    served: set[str] = set()
    known: dict[str, set[str] | None] = {}
    for queues, pipelines in serving.live().values_list("serves", "pipelines"):
        for queue in queues:
            served.add(queue)
            before = known.get(queue, set())
            known[queue] = None if before is None or pipelines is None else before | set(pipelines)
    return served, {queue: sorted(names) for queue, names in known.items() if names is not None}


def _slugs() -> dict[str, str]:
    return {name: known.slug for known in all_pipelines() for name in (known.slug, *known.formerly)}


_HOLD, _ENTRY = Hold._meta.db_table, PauseQueueEntry._meta.db_table
_LANE, _AGENT = Lane._meta.db_table, Agent._meta.db_table

_HELD = f"""
    SELECT scope, min(array_position(%(order)s::text[], CASE split_part(scope, ':', 1)
               WHEN 'fleet' THEN 'fleet' WHEN 'node' THEN 'node' ELSE kind::text END)) AS rank
      FROM {_HOLD} WHERE released_at IS NULL GROUP BY scope
"""

_WAITING = f"""
    SELECT run.id, run.pipeline, run.lane, run.lifecycle, run.storage, run.started_at, run.account_id, run.site_id,
           CASE WHEN run.cancel_requested_at IS NOT NULL THEN 'cancel' WHEN run.copying IS NOT NULL THEN '{COPYING}' END
               AS first
      FROM {RUN} AS run
     WHERE run.finished_at IS NULL AND (
           (run.lifecycle = 'pending' AND run.start_requested_at IS NOT NULL)
           OR (run.lifecycle = 'running' AND EXISTS (
                    SELECT FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
                     WHERE stage.run_id = run.id AND stage.lifecycle = 'running' AND slice.finished_at IS NULL)
               AND NOT EXISTS (
                    SELECT FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
                     WHERE stage.run_id = run.id AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL)))
"""

# Who is before each in its lane: the rule of ``lane_order.MUST_WAIT``, in one pass.
_LINE = f"""
    SELECT run.id, coalesce(lane.width, 1) AS width,
           coalesce(sum(CASE WHEN {lane_order.waits("run")} AND unmet.run_id IS NULL
                              AND (run.paused_at IS NULL OR lane.policy IS DISTINCT FROM 'skip_parked')
                             THEN 1 ELSE 0 END)
                    OVER (PARTITION BY run.lane ORDER BY run.priority, run.lane_order, run.created_at, run.id
                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
           + coalesce(seated.runs, 0) AS ahead
      FROM {RUN} AS run
      LEFT JOIN {_LANE} AS lane ON lane.name = run.lane
      LEFT JOIN unmet ON unmet.run_id = run.id
      LEFT JOIN (SELECT lane, count(*) AS runs FROM {RUN} WHERE lane_seat_at IS NOT NULL GROUP BY lane) AS seated
             ON seated.lane = run.lane
     WHERE run.finished_at IS NULL AND run.lane_seat_at IS NULL
"""

_BASE = f"""
    SELECT run.*, least(
               (SELECT rank FROM held WHERE scope = 'fleet'),
               CASE WHEN {ALL_NODES_HELD} THEN array_position(%(order)s::text[], 'node') END,
               of_run.rank, of_pipeline.rank, of_lane.rank,
               CASE WHEN run.started_at IS NULL AND unmet.run_id IS NOT NULL
                    THEN array_position(%(order)s::text[], '{dependencies.CODE}') END,
               CASE WHEN line.ahead >= line.width
                    THEN array_position(%(order)s::text[], '{lane_order.CODE}') END) AS rank
      FROM waiting AS run
      LEFT JOIN held AS of_run ON of_run.scope = 'run:' || run.id
      LEFT JOIN held AS of_pipeline ON of_pipeline.scope = 'pipeline:' || run.pipeline
      LEFT JOIN held AS of_lane ON of_lane.scope = 'lane:' || run.lane
      LEFT JOIN unmet ON unmet.run_id = run.id
      LEFT JOIN line ON line.id = run.id
"""

_IDLE = f"""
    CASE WHEN NOT coalesce({installed_code.IS_HERE}, false) OR stage.lifecycle <> 'running' THEN NULL
         WHEN {INTERFACE} = '{AGENT}' THEN
             CASE WHEN NOT EXISTS (
                 SELECT FROM {_AGENT} AS agent
                  WHERE agent.is_enabled AND agent.account_id = run.account_id
                    AND (agent.site_id IS NULL OR agent.site_id = run.site_id)
                    AND agent.last_seen_at >= statement_timestamp() - make_interval(secs => %(gone_seconds)s::float8)
                    AND to_jsonb(agent.pipelines) ?| ARRAY(SELECT jsonb_array_elements_text(
                        coalesce(%(aliases)s::jsonb -> run.pipeline::text, jsonb_build_array(run.pipeline)))))
             THEN '{idle_reasons.NO_AGENT}' END
         WHEN %(is_told)s AND {QUEUE} NOT IN ('', %(control)s) AND {QUEUE} <> ALL (%(served)s::text[])
         THEN '{outlook.NO_WORKER}'
         WHEN NOT (coalesce(%(known)s::jsonb -> {QUEUE}, to_jsonb(ARRAY[coalesce(
                  %(slugs)s::jsonb ->> run.pipeline::text, run.pipeline)])) ? coalesce(
                  %(slugs)s::jsonb ->> run.pipeline::text, run.pipeline))
         THEN '{outlook.NO_WORKER}'
         WHEN EXISTS (
             SELECT FROM {TICKET} AS ticket
              WHERE ticket.stage_run_id = stage.id
                AND ticket.sent_at < statement_timestamp() - make_interval(secs => %(busy_seconds)s::float8))
         THEN '{idle_reasons.NO_FREE_WORKER}' END
"""
_IDLE_TURN = f"""
    CASE WHEN {INTERFACE} = '{AGENT}' THEN 0
         WHEN %(is_told)s AND {QUEUE} NOT IN ('', %(control)s) AND {QUEUE} <> ALL (%(served)s::text[]) THEN 1
         ELSE 2 END
"""

_OF_SLICES = f"""
    SELECT bool_or(slice.waits > 0 AND slice.lease_token IS NULL AND slice.available_at > statement_timestamp())
               AS waits,
           bool_or(slice.crashes + slice.expiries >= %(often)s) AS loses
      FROM {SLICE} AS slice
     WHERE slice.stage_run_id = stage.id AND slice.finished_at IS NULL
       AND (slice.waits > 0 OR slice.crashes > 0 OR slice.expiries > 0)
"""

# Of each stage the facts alone are carried further: sorting the definitions of 100,000 stages would take seconds.
_STAGES = f"""
    SELECT run.id, least(of_queue.rank, of_resources.rank) AS rank,
           NOT coalesce({installed_code.IS_HERE}, false) AS is_missing,
           run.lifecycle = 'running' AND stage.lifecycle = 'running' AND NOT {resource_limits.HAVE_PLACES}
               AS is_limited,
           run.lifecycle = 'running' AND stage.lifecycle = 'running' AND {delays.WAITS} AS is_delayed,
           CASE WHEN run.lifecycle = 'running' THEN {_IDLE} END AS idle, {_IDLE_TURN} AS turn, {QUEUE} AS queue,
           stage.lifecycle = 'running' AND stage.loop_failures > 0 AS fails,
           stage.lifecycle = 'running' AND trouble.waits AS waits,
           stage.lifecycle = 'running' AND trouble.loses AS loses
      FROM base AS run
      JOIN {STAGE} AS stage ON stage.run_id = run.id AND stage.position >= 0
       AND (stage.lifecycle = 'running' OR (run.lifecycle = 'pending' AND stage.position = 0)
            OR stage.definition IS NULL)
      LEFT JOIN held AS of_queue ON of_queue.scope = 'queue:' || {QUEUE}
      LEFT JOIN LATERAL (
            SELECT min(held.rank) AS rank FROM jsonb_array_elements_text(stage.definition->'uses') AS used(name)
              JOIN held ON held.scope = 'resource:' || used.name) AS of_resources ON true
      LEFT JOIN LATERAL ({_OF_SLICES}) AS trouble ON run.lifecycle = 'running'
     WHERE run.first IS NULL AND (run.rank IS NULL OR run.rank > (
           SELECT min(rank) FROM held WHERE scope LIKE 'queue:%%' OR scope LIKE 'resource:%%'))
    OFFSET 0
"""

_LATER = f"""
    SELECT stage.id, min(stage.rank) AS rank, bool_or(stage.is_missing) AS is_missing,
           bool_or(stage.is_limited) AS is_limited, bool_or(stage.is_delayed) AS is_delayed,
           (array_agg(stage.idle ORDER BY stage.turn, stage.queue) FILTER (WHERE stage.idle IS NOT NULL))[1] AS idle,
           bool_or(stage.fails) AS fails, bool_or(stage.waits) AS waits, bool_or(stage.loses) AS loses
      FROM ({_STAGES}) AS stage GROUP BY stage.id
"""

# Of what waits for room: that no worker serves it, if the last poll has found that.
_UNSERVED = f"""
    SELECT DISTINCT entry.ref
      FROM {PollState._meta.db_table} AS state
     CROSS JOIN jsonb_array_elements(state.told) AS listed(one)
      JOIN {_ENTRY} AS entry ON entry.finished_at IS NULL AND entry.waits_for = 'capacity'
       AND entry.work_queue = one->>'queue' AND entry.pipeline = one->>'pipeline' AND entry.needs = one->'needs'
     WHERE state.id = 1 AND state.polled_at IS NOT NULL AND one->>'code' = '{outlook.NO_WORKER}'
"""

STATEMENT = f"""
    WITH held AS MATERIALIZED ({_HELD}),
         unmet AS MATERIALIZED (
             SELECT DISTINCT run_id FROM {DEPENDENCY} WHERE satisfied_at IS NULL AND released_at IS NULL),
         waiting AS MATERIALIZED ({_WAITING}),
         line AS MATERIALIZED ({_LINE}),
         base AS MATERIALIZED ({_BASE}),
         later AS MATERIALIZED ({_LATER}),
         unserved AS MATERIALIZED ({_UNSERVED}),
         told AS (
             SELECT CASE WHEN run.first IS NOT NULL THEN run.first
                         WHEN least(run.rank, later.rank) IS NOT NULL THEN
                             CASE WHEN (%(order)s::text[])[least(run.rank, later.rank)] = 'capacity'
                                       AND unserved.ref IS NOT NULL THEN '{outlook.NO_WORKER}'
                                  ELSE (%(order)s::text[])[least(run.rank, later.rank)] END
                         WHEN later.is_missing THEN '{standstills.CODE_MISSING}'
                         WHEN {file_sharing.APART} THEN '{file_sharing.NOT_SHARED}'
                         WHEN later.is_limited THEN '{resource_limits.LIMITED}'
                         WHEN later.is_delayed THEN '{delays.CODE}'
                         WHEN later.idle IS NOT NULL THEN later.idle
                         WHEN later.fails THEN '{problems.FAILING}'
                         WHEN later.waits THEN '{problems.WAITS}'
                         WHEN later.loses THEN '{problems.LOSES}'
                         ELSE '{STARTING}' END AS reason
               FROM base AS run
               LEFT JOIN later ON later.id = run.id
               LEFT JOIN unserved ON unserved.ref = 'run:' || run.id)
    SELECT reason, count(*) FROM told GROUP BY reason
"""
