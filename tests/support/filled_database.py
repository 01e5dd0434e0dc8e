"""A database with a past: many ended runs, some at work with many open slices, two accounts of unequal size.

Everything is made by statements over sets, so that a million runs take minutes and some ten thousand seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

from django.db import connection

from automation.pipeline import definition, get_pipeline


@dataclass(frozen=True)
class Size:
    """How much there is."""

    ended: int
    """Runs that have ended, some of them with slices that were never done."""
    at_work: int
    """Running runs, all of the large account."""
    slices: int
    """Open slices of each of them."""
    most_read: int
    """Rows of one table that one step of a statement may look at."""


IN_CI = Size(ended=12_000, at_work=20, slices=600, most_read=2_500)
A_MILLION = Size(ended=1_000_000, at_work=200, slices=5_000, most_read=12_000)

BIG = (
    "automation_automationrun",
    "automation_stagerun",
    "automation_workslice",
    "automation_workitem",
    "automation_itemfailure",
    "pause_manager_controlevent",
    "pause_manager_hold",
)


class Accounts(NamedTuple):
    large: int
    small: int
    """Its 50 runs are older than all others."""


def fill(size: Size) -> Accounts:
    """Make it all, and let the planner know."""
    drill = get_pipeline("drill")
    work = json.dumps(definition.as_json(definition.declared(drill, drill.stage("work"))))
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        for statement in _STATEMENTS:
            cursor.execute(statement, {**asdict(size), "definition": work})
        # Small tables too: what the planner knows of them must not be left over from other tests.
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT id FROM automation_account WHERE name IN ('large', 'small') ORDER BY name")
        return Accounts(*(row[0] for row in cursor.fetchall()))


_STATEMENTS = (
    "INSERT INTO automation_account (name) VALUES ('large'), ('small')",
    """
    INSERT INTO automation_site (account_id, slug, name)
    SELECT account.id, 'site-' || n, 'Site ' || n
      FROM generate_series(1, 40) AS n JOIN automation_account AS account
        ON account.name = CASE WHEN n = 40 THEN 'small' ELSE 'large' END
    """,
    """
    INSERT INTO automation_automationrun
           (id, site_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at, start_requested_at,
            started_at, finished_at, cancelled_at, paused_seconds, priority, ignores_capacity, cancel_requested_by,
            failure)
    SELECT gen_random_uuid(), site.id, CASE WHEN n %% 3 = 0 THEN 'content' ELSE 'drill' END, site.slug,
           jsonb_build_object('items', 100, 'fail_every', n), ended.lifecycle, 'user:x', 100, at, at, at,
           at + interval '1 minute', CASE WHEN ended.lifecycle = 'cancelled' THEN at + interval '1 minute' END,
           0, 3, false, '', ''
      FROM generate_series(1, %(ended)s) AS n
     CROSS JOIN LATERAL (SELECT now() - interval '400 days' + n * interval '30 seconds' AS at) AS times
     CROSS JOIN LATERAL (SELECT CASE n %% 20 WHEN 1 THEN 'failed' WHEN 2 THEN 'cancelled' ELSE 'completed' END
                                AS lifecycle) AS ended
      JOIN automation_site AS site ON site.slug = 'site-' || CASE WHEN n <= 50 THEN 40 ELSE 1 + n %% 39 END
    """,
    """
    INSERT INTO automation_automationrun
           (id, site_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at, start_requested_at,
            started_at, lane_seat_at, paused_seconds, priority, ignores_capacity, cancel_requested_by, failure)
    SELECT gen_random_uuid(), site.id, 'drill', site.slug, '{"items": 1}', 'running', 'user:x', %(slices)s,
           now() - n * interval '1 minute', now(), now(), now(), 0, 3, false, '', ''
      FROM generate_series(1, %(at_work)s) AS n
      JOIN automation_site AS site ON site.slug = 'site-' || 1 + n %% 39
    """,
    """
    INSERT INTO automation_stagerun
           (run_id, slug, position, lifecycle, total_items, started_at, finished_at, paused_seconds_at_start,
            paused_seconds_at_end, definition)
    SELECT run.id, stage.slug, stage.position, CASE WHEN is_done THEN 'completed' ELSE 'running' END, run.total_items,
           run.started_at, CASE WHEN is_done THEN run.started_at + interval '1 minute' END, 0, 0,
           CASE WHEN stage.position < 0 THEN '{}' ELSE %(definition)s::jsonb END
      FROM automation_automationrun AS run
     CROSS JOIN (VALUES ('input', -1), ('work', 0)) AS stage(slug, position)
     CROSS JOIN LATERAL (SELECT run.lifecycle = 'completed' OR stage.position < 0 AS is_done) AS done
    """,
    """
    INSERT INTO automation_workslice
           (stage_run_id, phase, ordinal, source_id, first_key, last_key, size, cursor, processed, failed,
            busy_seconds, finished_at, crashes, lease_owner, lease_node, lease_gpus, lease_yield)
    SELECT work.id, 1, n, input.id, lpad(n::text, 7, '0'), lpad(n::text, 7, '0'), 1, '', 0, 0, 0, work.finished_at, 0,
           '', '', '{}', ''
      FROM automation_stagerun AS work
      JOIN automation_stagerun AS input ON input.run_id = work.run_id AND input.position = -1
      JOIN automation_automationrun AS run ON run.id = work.run_id
     CROSS JOIN LATERAL generate_series(1, CASE run.lifecycle WHEN 'running' THEN %(slices)s ELSE 1 END) AS n
     WHERE work.position = 0
    """,
    """
    INSERT INTO automation_workitem (made_by_id, key, payload)
    SELECT source_id, first_key, '{"n": 1}' FROM automation_workslice
    """,
    """
    INSERT INTO automation_itemfailure (stage_run_id, key, payload, error, attempts)
    SELECT stage.id, lpad(n::text, 7, '0'), '{"n": 1}', 'ValueError: no', 1
      FROM automation_stagerun AS stage JOIN automation_automationrun AS run ON run.id = stage.run_id
     CROSS JOIN generate_series(1, 10) AS n
     WHERE run.lifecycle = 'failed' AND stage.position = 0
    """,
    """
    INSERT INTO automation_runquestion
           (run_id, stage_run_id, kind, item_key, question, choices, error, error_pattern, attempts, asked_at, asked_by,
            answer, applies_to, answered_at, answered_by)
    SELECT run_id, id, 'item', lpad(n::text, 7, '0'), 'It has failed.', '{retry,skip,fail}', 'ValueError: no',
           'ValueError: no', 1, now(), '', 'retry', 'item', now(), 'user:x'
      FROM automation_stagerun CROSS JOIN generate_series(1, 2) AS n
     WHERE position = 0
    """,
    """
    INSERT INTO pause_manager_controlevent
           (at, action, scope, actor, channel, reason, request_id, details, tenant)
    SELECT run.created_at, action, 'run:' || run.id, 'user:x', 'api', '', '', '{}', run.account_id
      FROM automation_automationrun AS run CROSS JOIN (VALUES ('create'), ('complete')) AS done(action)
    """,
    """
    INSERT INTO pause_manager_hold
           (scope, kind, mode, reason, actor, idempotency_key, on_expiry, created_at, released_at, released_by,
            release_reason, drained_at, work_resumed_at)
    SELECT 'run:' || id, 'operator', 'drain', '', 'user:x', '', 'resume', at, at, 'user:x', '', at, at
      FROM automation_automationrun CROSS JOIN LATERAL (SELECT now() - random() * interval '10 days' AS at) AS times
    """,
)
