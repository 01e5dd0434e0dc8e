"""What the pause manager keeps: the audit trail, holds, the pause queue, nodes, workers, samples for charts."""

from __future__ import annotations

from benchmarks.console.filling import Step

NODES = 40

STEPS = (
    Step(
        "audit",
        ("pause_manager_controlevent",),
        (
            """
            INSERT INTO pause_manager_controlevent
                   (at, action, scope, actor, channel, reason, request_id, details, tenant)
            SELECT at, done.action, 'run:' || run.id, run.created_by, (ARRAY['api', 'console', 'schedule'])[
                   1 + abs(hashtext(run.id::text)) %% 3], '', '', '{}', run.account_id
              FROM automation_automationrun AS run
             CROSS JOIN LATERAL (VALUES ('create', run.created_at), ('complete', run.finished_at)) AS done(action, at)
             WHERE done.at IS NOT NULL ORDER BY at
            """,
            """
            INSERT INTO pause_manager_controlevent
                   (at, action, scope, actor, channel, reason, request_id, details, tenant)
            SELECT now() - n * interval '5 minutes', (ARRAY['hold_placed', 'hold_released', 'parked', 'sent_on',
                   'node_saturated'])[1 + n %% 5], CASE n %% 5 WHEN 4 THEN 'node:node-' || n %% 40
                   ELSE 'queue:queue-' || n %% 20 END, CASE n %% 3 WHEN 0 THEN 'capacity' ELSE 'user:fleet' END,
                   CASE n %% 3 WHEN 0 THEN 'system' ELSE 'cli' END, 'upgrade ' || n %% 9, '', '{}', NULL
              FROM generate_series(1, %(ended)s / 10) AS n
            """,
        ),
    ),
    Step(
        "holds",
        ("pause_manager_hold",),
        (
            """
            INSERT INTO pause_manager_hold
                   (scope, kind, mode, reason, actor, idempotency_key, on_expiry, created_at, released_at, released_by,
                    release_reason, drained_at, work_resumed_at)
            SELECT 'run:' || md5('run ' || n)::uuid, 'operator', 'drain', 'a look', 'user:x', '', 'resume', at, at,
                   'user:x', '', at, at
              FROM generate_series(1, %(ended)s, 3) AS n
             CROSS JOIN LATERAL (SELECT now() - n * interval '30 seconds' AS at) AS times
            """,
            """
            INSERT INTO pause_manager_hold
                   (scope, kind, mode, reason, actor, idempotency_key, on_expiry, created_at, released_by,
                    release_reason)
            SELECT 'run:' || md5('open ' || n)::uuid, kind, 'drain', 'because', 'user:person-' || n %% 50, '', 'resume',
                   now() - n * interval '1 minute', '', ''
              FROM generate_series(1, %(unfinished)s) AS n
             CROSS JOIN LATERAL (SELECT CASE WHEN n %% 100 BETWEEN 10 AND 29 THEN 'operator'
                                             WHEN n %% 100 BETWEEN 30 AND 31 THEN 'needs_input'
                                             WHEN n %% 100 BETWEEN 32 AND 33 THEN 'budget'
                                             WHEN n %% 100 BETWEEN 34 AND 43 THEN 'capacity'
                                             WHEN n %% 100 = 44 THEN 'window'
                                             WHEN n %% 100 = 45 THEN 'throttled'
                                             WHEN n %% 100 = 46 THEN 'freeze' END AS kind) AS kinds
             WHERE kind IS NOT NULL
            """,
            """
            INSERT INTO pause_manager_hold
                   (scope, kind, mode, reason, actor, idempotency_key, on_expiry, created_at, released_by,
                    release_reason)
            SELECT 'lane:site-' || n * 30, 'freeze', 'drain', 'checks', 'user:x', '', 'resume', now(), '', ''
              FROM generate_series(1, 20) AS n
            """,
        ),
    ),
    Step(
        "pause queue",
        ("pause_manager_pausequeueentry",),
        (
            """
            INSERT INTO pause_manager_pausequeueentry
                   (ref, task_name, args, kwargs, queue, priority, needs, reason, paused_at, attempts, outcome,
                    pipeline, waits_for, work_queue)
            SELECT 'run:' || md5('open ' || n)::uuid, '', '[]', '{}', 'control', 1 + n %% 5, '{"cpu": 4.0}', 'full',
                   now() - n * interval '1 minute', 0, '', 'drill', 'capacity', 'stages'
              FROM generate_series(1, %(unfinished)s) AS n WHERE n %% 100 BETWEEN 34 AND 43
            """,
            """
            INSERT INTO pause_manager_pausequeueentry
                   (ref, task_name, args, kwargs, queue, priority, needs, reason, paused_at, attempts, outcome,
                    waits_for, message, message_key, work_queue, problem, finished_at, sent_at, confirmed_at)
            SELECT 'task:' || md5('task ' || n)::uuid, 'shop.tasks.task_' || n %% 12, '[]', '{}', 'queue-' || n %% 20,
                   1 + n %% 5, jsonb_build_object('cpu', 1.0 + n %% 3, 'memory_mib', 1000 * (n %% 4)), 'full',
                   at, 0, ended.outcome, CASE n %% 5 WHEN 0 THEN 'hold' ELSE 'capacity' END,
                   '{"headers": {"task": "shop.tasks.task"}}', md5('key ' || n), 'queue-' || n %% 20,
                   CASE WHEN ended.outcome = '' AND n %% 200 = 7 THEN 'unknown_task' ELSE '' END,
                   CASE WHEN ended.outcome <> '' THEN at + interval '1 minute' END,
                   CASE WHEN ended.outcome = 'sent' THEN at + interval '1 minute' END,
                   CASE WHEN ended.outcome = 'sent' THEN at + interval '61 seconds' END
              FROM generate_series(1, %(waiting_entries)s + %(ended_entries)s) AS n
             CROSS JOIN LATERAL (SELECT now() - n * interval '2 seconds' AS at) AS times
             CROSS JOIN LATERAL (SELECT CASE WHEN n <= %(waiting_entries)s THEN ''
                   ELSE (ARRAY['sent', 'sent', 'sent', 'sent', 'sent', 'dropped', 'expired', 'revoked'])[1 + n %% 8]
                   END AS outcome) AS ended
            """,
        ),
    ),
    Step(
        "samples",
        ("pause_manager_waitingsample", "pause_manager_countersample", "pause_manager_fleetworker"),
        (
            """
            INSERT INTO pause_manager_waitingsample (minute, work, reason, count)
            SELECT date_trunc('minute', now()) - n * interval '1 minute', work, reason, 1 + (n * 37) %% 900
              FROM generate_series(0, 7 * 1440) AS n
             CROSS JOIN (VALUES ('runs', 'lane'), ('runs', 'operator'), ('runs', 'capacity'), ('runs', 'dependency'),
                                ('runs', 'needs_input'), ('tasks', 'capacity'), ('tasks', 'operator'), ('all', ''))
                     AS kinds(work, reason)
            """,
            """
            INSERT INTO pause_manager_countersample (minute, name, value)
            SELECT date_trunc('minute', now()) - n * interval '1 minute', name, 1000000 - 60 * n
              FROM generate_series(0, 7 * 1440) AS n CROSS JOIN unnest(%(counters)s::text[]) AS name
            """,
            f"""
            INSERT INTO pause_manager_fleetworker
                   (name, node, queues, acknowledged_version, owner, serves, task_names)
            SELECT 'celery-' || n || '@node-' || n %% {NODES} || '+1', 'node-' || n %% {NODES},
                   ARRAY['stages', 'queue-' || n %% 20], 1, 'owner-' || n, '[]', '[]'
              FROM generate_series(1, 200) AS n
            """,
        ),
    ),
)


def sample_nodes() -> None:
    """Have every node report, as its worker would each second."""
    from pause_manager.capacity.snapshot import GpuView, NodeView
    from pause_manager.models.clock import database_seconds
    from pause_manager.nodes import registry
    from pause_manager.probes.sample import Sample

    gpus = tuple(GpuView(index, total_mib=24_000, free_mib=12_000, utilisation=0.0) for index in range(4))
    for number in range(NODES):
        view = NodeView(
            name=f"node-{number}",
            sampled_at=database_seconds(),
            cores=32,
            foreign_cores=number % 24,
            memory_mib=256_000,
            free_memory_mib=128_000,
            gpus=gpus,
        )
        registry.save_sample(Sample(view))
        registry.announce(Sample(view))
