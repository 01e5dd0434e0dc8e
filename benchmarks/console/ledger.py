"""What credits keep: a million lines of the large account in the last month, and what its runs used in a year."""

from __future__ import annotations

from benchmarks.console.filling import Step
from benchmarks.console.work import LARGE

_LARGE = f"(SELECT id FROM automation_account WHERE name = '{LARGE}')"
_LAST_MONTH = "(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month') AT TIME ZONE 'UTC'"

STEPS = (
    Step(
        "credits",
        ("credits_billing", "credits_price", "credits_runcredits", "credits_usage"),
        (
            """
            INSERT INTO credits_billing (account_id, overdraft, low_balance, on_top_up, created_at)
            SELECT id, 0, 0, 'resume', now() - interval '2 years' FROM automation_account
            """,
            """
            INSERT INTO credits_price
                   (pipeline, stage, unit, charge, cost, charges_failed, function, text_field, valid_from)
            SELECT pipeline, 'work', 'item', 10, 0, false, 'work', '', now() - interval '2 years'
              FROM unnest(ARRAY['content', 'drill']) AS pipeline
            """,
            f"""
            INSERT INTO credits_runcredits (run_id, account_id, site_id, estimate, reserved, created_at, settled_at)
            SELECT id, account_id, site_id, 1000, 1200, created_at, finished_at FROM automation_automationrun
             WHERE account_id = {_LARGE}
            """,
            f"""
            INSERT INTO credits_usage
                   (account_id, site_id, run_id, stage_run_id, slice_id, stage, function, month, items, charged, cost,
                    is_settled)
            SELECT run.account_id, run.site_id, run.id, stage.id, 0, 'work', 'work',
                   date_trunc('month', run.created_at AT TIME ZONE 'UTC')::date, 100, 1000, 0, true
              FROM automation_automationrun AS run
              JOIN automation_stagerun AS stage ON stage.run_id = run.id AND stage.position = 0
             WHERE run.account_id = {_LARGE} AND run.finished_at IS NOT NULL
            """,
        ),
    ),
    Step(
        "ledger",
        ("credits_transfer", "credits_line"),
        (
            # Its runs of the last month, in turn; each charge is a checkpoint with nine items.
            f"""
            INSERT INTO credits_transfer
                   (kind, unit, account_id, run_id, stage, price_id, actor, reason, xact, created_at)
            SELECT 'charge', 'credits', {_LARGE}, runs.ids[1 + n %% cardinality(runs.ids)], 'work',
                   (SELECT min(id) FROM credits_price), 'system', '', n,
                   {_LAST_MONTH} + n * (interval '28 days' / %(charges)s)
              FROM (SELECT array_agg(run_id) AS ids FROM credits_runcredits
                     WHERE created_at >= {_LAST_MONTH} AND created_at < {_LAST_MONTH} + interval '28 days') AS runs
             CROSS JOIN generate_series(1, %(charges)s) AS n
            """,
            """
            INSERT INTO credits_line (book, account_id, amount, stage_run_id, item_key, kind, transfer_id)
            SELECT CASE n WHEN 0 THEN 'revenue' ELSE 'available' END, account_id, CASE n WHEN 0 THEN 90 ELSE -10 END,
                   CASE WHEN n > 0 THEN transfer.id END, lpad(n::text, 7, '0'), 'charge', transfer.id
              FROM credits_transfer AS transfer CROSS JOIN generate_series(0, 9) AS n
            """,
        ),
    ),
)
