"""Accounts, sites, and the runs of their past and present, with stages, slices, failures and schedules."""

from __future__ import annotations

from benchmarks.console.filling import Step

SITES, ACCOUNTS = 1_000, 200
LARGE, SMALL = "large", "small"
"""One account has 40 sites and four of ten runs; another has one site with the fifty oldest runs."""

LONG_RUN = "md5('long')::uuid"

STEPS = (
    Step(
        "accounts, sites, lanes",
        ("automation_account", "automation_site", "automation_lane"),
        (
            f"""
            INSERT INTO automation_account (name)
            SELECT CASE n WHEN 1 THEN '{LARGE}' WHEN 2 THEN '{SMALL}' ELSE 'account ' || n END
              FROM generate_series(1, {ACCOUNTS}) AS n
            """,
            f"""
            INSERT INTO automation_site (account_id, slug, name)
            SELECT account.id, 'site-' || n, 'Site ' || n
              FROM generate_series(1, {SITES}) AS n JOIN automation_account AS account
                ON account.name = CASE WHEN n <= 40 THEN '{LARGE}' WHEN n = 41 THEN '{SMALL}'
                                       ELSE 'account ' || 3 + n %% {ACCOUNTS - 2} END
            """,
            "INSERT INTO automation_lane (name, width) SELECT slug, 2 FROM automation_site",
        ),
    ),
    Step(
        "runs",
        ("automation_automationrun",),
        (
            """
            INSERT INTO automation_automationrun
                   (id, site_id, account_id, pipeline, lane, params, lifecycle, created_by, total_items, failed_items,
                    created_at, start_requested_at, started_at, finished_at, cancelled_at, paused_seconds, priority,
                    ignores_capacity, cancel_requested_by, failure)
            SELECT md5('run ' || n)::uuid, site.id, site.account_id, (ARRAY['content', 'drill', 'drill'])[1 + n %% 3],
                   site.slug, '{"items": 100}', how.ended, 'user:person-' || n %% 50, 100,
                   CASE WHEN n %% 100 BETWEEN 10 AND 17 THEN 1 WHEN how.ended = 'failed' THEN 5 ELSE 0 END,
                   at, at, at, at + interval '1 minute',
                   CASE WHEN how.ended = 'cancelled' THEN at + interval '1 minute' END, 0, 3, false, '',
                   CASE WHEN how.ended = 'failed' THEN 'Too many items failed.' ELSE '' END
              FROM generate_series(1, %(ended)s) AS n
             CROSS JOIN LATERAL (SELECT statement_timestamp() - interval '1 minute'
                                        - (%(ended)s - n) * (interval '400 days' / %(ended)s) AS at) AS times
             CROSS JOIN LATERAL (SELECT CASE WHEN n %% 100 < 4 THEN 'failed' WHEN n %% 100 < 7 THEN 'cancelled'
                                             ELSE 'completed' END AS ended) AS how
              JOIN automation_site AS site ON site.slug = 'site-' || CASE
                   WHEN n <= 50 THEN 41 WHEN n %% 10 < 4 THEN 1 + n / 10 %% 40 ELSE 42 + n / 7 %% 958 END
            """,
            """
            INSERT INTO automation_automationrun
                   (id, site_id, account_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at,
                    start_requested_at, started_at, lane_seat_at, paused_at, paused_seconds, priority,
                    ignores_capacity, cancel_requested_by, failure)
            SELECT md5('open ' || n)::uuid, site.id, site.account_id, (ARRAY['content', 'drill', 'drill'])[1 + n %% 3],
                   site.slug, '{"items": 100}', CASE WHEN is_begun THEN 'running' ELSE 'pending' END,
                   'user:person-' || n %% 50, 4000, at, at, CASE WHEN is_begun THEN at END,
                   CASE WHEN is_begun THEN at END, CASE WHEN is_begun AND n %% 100 >= 10 THEN at END, 0,
                   1 + n %% 5, false, '', ''
              FROM generate_series(1, %(unfinished)s) AS n
             CROSS JOIN LATERAL (SELECT statement_timestamp() - n * interval '1 minute' AS at,
                                        n %% 100 < 47 AS is_begun) AS facts
              JOIN automation_site AS site ON site.slug = 'site-' || CASE
                   WHEN n %% 20 = 19 THEN 7 WHEN n %% 2 = 0 THEN 1 + n / 10 %% 40 ELSE 42 + n / 7 %% 958 END
            """,
            f"""
            INSERT INTO automation_automationrun
                   (id, site_id, account_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at,
                    start_requested_at, started_at, lane_seat_at, paused_seconds, priority, ignores_capacity,
                    cancel_requested_by, failure)
            SELECT {LONG_RUN}, id, account_id, 'drill', slug, '{{"items": 1}}', 'running', 'user:x',
                   1000 * %(long_run_slices)s, statement_timestamp(), statement_timestamp(), statement_timestamp(),
                   statement_timestamp(), 0, 3, false, '', ''
              FROM automation_site WHERE slug = 'site-1'
            """,
        ),
    ),
    Step(
        "stages",
        ("automation_stagerun",),
        (
            """
            INSERT INTO automation_stagerun
                   (run_id, slug, position, lifecycle, total_items, started_at, finished_at, paused_seconds_at_start,
                    paused_seconds_at_end, definition)
            SELECT run.id, stage.slug, stage.position, how.now,
                   CASE WHEN how.now <> 'pending' THEN run.total_items END,
                   CASE WHEN how.now <> 'pending' THEN run.created_at END,
                   CASE WHEN how.now = 'completed' THEN run.created_at + interval '1 minute' END, 0, 0,
                   CASE WHEN stage.position < 0 THEN '{}' ELSE %(definition)s::jsonb END
              FROM automation_automationrun AS run
             CROSS JOIN (VALUES ('input', -1), ('work', 0)) AS stage(slug, position)
             CROSS JOIN LATERAL (SELECT CASE WHEN run.lifecycle = 'completed' OR stage.position < 0 THEN 'completed'
                                             WHEN run.lifecycle = 'pending' THEN 'pending'
                                             ELSE 'running' END AS now) AS how
            """,
        ),
    ),
    Step(
        "slices",
        ("automation_workslice", "automation_slicetotals"),
        (
            f"""
            INSERT INTO automation_workslice
                   (stage_run_id, phase, ordinal, source_id, first_key, last_key, size, cursor, processed, failed,
                    busy_seconds, finished_at, crashes, lease_owner, lease_node, lease_gpus, lease_yield)
            SELECT work.id, 1, n, input.id, lpad(n::text, 7, '0'), lpad(n::text, 7, '0'), kind.size, '',
                   CASE WHEN is_done THEN kind.size ELSE 0 END, 0, 1,
                   CASE WHEN is_done THEN coalesce(work.finished_at, work.started_at) END, 0, '', '', '{{}}', ''
              FROM automation_stagerun AS work
              JOIN automation_stagerun AS input ON input.run_id = work.run_id AND input.position = -1
             CROSS JOIN LATERAL (
                   SELECT CASE WHEN work.run_id = {LONG_RUN} THEN %(long_run_slices)s
                               WHEN work.lifecycle = 'running' AND work.total_items > 100 THEN 40 ELSE 1 END AS many,
                          CASE WHEN work.run_id = {LONG_RUN} THEN 1000 ELSE 100 END AS size) AS kind
             CROSS JOIN LATERAL generate_series(1, kind.many) AS n
             CROSS JOIN LATERAL (SELECT work.finished_at IS NOT NULL OR n <= kind.many / 3 AS is_done) AS done
             WHERE work.position = 0 AND work.lifecycle <> 'pending'
            """,
            """
            INSERT INTO automation_slicetotals (stage_run_id, phase, open, processed, failed)
            SELECT stage_run_id, phase, count(*) FILTER (WHERE finished_at IS NULL), sum(processed), sum(failed)
              FROM automation_workslice GROUP BY 1, 2
            """,
        ),
    ),
    Step(
        "items",
        ("automation_workitem",),
        (
            """
            INSERT INTO automation_workitem (made_by_id, key, payload)
            SELECT id, '0000001', '{"n": 1, "title": "An item"}' FROM automation_stagerun WHERE position = 0
            """,
        ),
    ),
    Step(
        "failures",
        ("automation_itemfailure",),
        (
            """
            INSERT INTO automation_itemfailure (stage_run_id, key, payload, error, attempts, failed_at)
            SELECT stage.id, lpad(n::text, 7, '0'), '{"n": 1}',
                   E'Traceback (most recent call last):\n  File "a.py", line 1, in process\nValueError: sort '
                   || chr(97 + (stage.id %% 20)::int), 3, run.finished_at
              FROM automation_automationrun AS run
              JOIN automation_stagerun AS stage ON stage.run_id = run.id AND stage.position = 0
             CROSS JOIN LATERAL generate_series(1, run.failed_items) AS n
             WHERE run.failed_items > 0
            """,
        ),
    ),
    Step(
        "questions, dependencies",
        ("automation_runquestion", "automation_rundependency"),
        (
            """
            INSERT INTO automation_runquestion
                   (run_id, stage_run_id, kind, item_key, question, choices, error, error_pattern, attempts, asked_at,
                    asked_by, answer, applies_to, answered_by)
            SELECT run_id, stage.id, 'item', '0000002', 'It has failed.', '{retry,skip,fail}', 'ValueError: no',
                   'ValueError: no', 1, statement_timestamp(), '', '', 'item', ''
              FROM generate_series(1, %(unfinished)s) AS n
              JOIN automation_stagerun AS stage ON stage.run_id = md5('open ' || n)::uuid AND position = 0
             WHERE n %% 100 IN (30, 31)
            """,
            """
            INSERT INTO automation_rundependency (run_id, after_id)
            SELECT md5('open ' || n)::uuid, md5('open ' || n - 50)::uuid
              FROM generate_series(60, %(unfinished)s) AS n WHERE n %% 100 BETWEEN 90 AND 97
            """,
        ),
    ),
    Step(
        "schedules",
        ("automation_schedule", "automation_scheduleoccurrence"),
        (
            """
            INSERT INTO automation_schedule
                   (kind, at, weekdays, cron, time_zone, anchor, name, pipeline, params, priority, is_enabled, catch_up,
                    skip_if_active, next_due_at, paused_by, pause_reason, created_by, site_id)
            SELECT 'daily', '08:00', '', '', 'Europe/Berlin', now(), 'schedule ' || n, 'drill', '{"items": 1}', 3,
                   true, 'none', false, now() + n * interval '1 minute', '', '', 'user:x', site.id
              FROM generate_series(1, %(schedules)s) AS n
              JOIN automation_site AS site ON site.slug = 'site-' || 1 + n %% 100
            """,
            """
            INSERT INTO automation_scheduleoccurrence (schedule_id, due_at, outcome, reason, actor, run_id)
            SELECT schedule.id, now() - n * interval '1 day', CASE n %% 5 WHEN 4 THEN 'skipped' ELSE 'started' END, '',
                   'system', CASE n %% 5 WHEN 4 THEN NULL ELSE md5('run ' || 1 + schedule.id * n)::uuid END
              FROM automation_schedule AS schedule CROSS JOIN generate_series(1, %(occurrences)s) AS n
            """,
        ),
    ),
)
