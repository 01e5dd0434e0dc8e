from django.db import migrations

# A line for each item is most of what credits cost: without ON CONFLICT, which looks twice, without a sort, and without
# reading back what was inserted. An item that has its line already, which a fenced checkpoint never meets, brings it back.
LINES_AT_ONCE = """
    CREATE OR REPLACE FUNCTION credits_lines_of_items(
        entry bigint, book text, account bigint, amount bigint, stage_run bigint, kind text, prefix text, source bigint,
        first_key text, after_key text, last_key text
    ) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
        lines bigint;
    BEGIN
        BEGIN
            INSERT INTO credits_line (transfer_id, book, account_id, amount, stage_run_id, item_key, kind)
            SELECT entry, book, account, amount, stage_run, prefix || item.key, kind
              FROM automation_workitem AS item
             WHERE item.made_by_id = source AND item.key >= first_key AND item.key > after_key AND item.key <= last_key;
            GET DIAGNOSTICS lines = ROW_COUNT;
        EXCEPTION WHEN unique_violation THEN
            INSERT INTO credits_line (transfer_id, book, account_id, amount, stage_run_id, item_key, kind)
            SELECT entry, book, account, amount, stage_run, prefix || item.key, kind
              FROM automation_workitem AS item
             WHERE item.made_by_id = source AND item.key >= first_key AND item.key > after_key AND item.key <= last_key
                ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS lines = ROW_COUNT;
        END;
        RETURN lines;
    END
    $$;

    CREATE OR REPLACE FUNCTION credits_charge() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        price credits_stageprice%ROWTYPE;
        prefix text;
        pass_size int;
        fresh_items int := NEW.processed + NEW.failed - OLD.processed - OLD.failed;
        has_failed boolean := NEW.failed > OLD.failed;
        is_same_for_all boolean;
        entry bigint;
        charged bigint := 0;
        spent bigint := 0;
    BEGIN
        SELECT * INTO price FROM credits_stageprice WHERE stage_run_id = NEW.stage_run_id;
        IF NOT FOUND OR NEW.source_id IS NULL THEN
            RETURN NULL;
        END IF;
        prefix := coalesce(price.prefixes ->> NEW.source_id::text, '');
        pass_size := CASE WHEN price.unit = 'item' THEN 1 ELSE price.group_size END;
        is_same_for_all := pass_size = 1 AND price.unit <> 'words' AND NOT has_failed;

        IF price.charge > 0 AND (NEW.processed > OLD.processed OR price.charges_failed) THEN
            INSERT INTO credits_transfer (kind, unit, account_id, run_id, stage, price_id, actor, reason, xact)
            VALUES ('charge', 'credits', price.account_id, price.run_id, price.stage, price.price_id, 'system', '',
                    pg_current_xact_id()::text::bigint)
            RETURNING id INTO entry;
            IF is_same_for_all THEN
                charged := price.charge * credits_lines_of_items(
                    entry, 'available', price.account_id, -price.charge, NEW.stage_run_id, 'charge', prefix,
                    NEW.source_id, NEW.first_key, OLD.cursor, NEW.cursor);
            ELSE
                WITH passed AS (
                    SELECT prefix || item.key AS key, (row_number() OVER (ORDER BY item.key) - 1) / pass_size AS number
                      FROM automation_workitem AS item
                     WHERE item.made_by_id = NEW.source_id AND item.key >= NEW.first_key AND item.key > OLD.cursor
                       AND item.key <= NEW.cursor
                ), units AS (
                    SELECT min(key) AS key, max(key) AS last FROM passed GROUP BY number
                ), taken AS (
                    SELECT key, last FROM units
                     WHERE NOT has_failed OR price.charges_failed OR NOT EXISTS (
                           SELECT 1 FROM automation_itemfailure AS failure
                            WHERE failure.stage_run_id = NEW.stage_run_id AND failure.key = units.key)
                ), priced AS (
                    SELECT key, CASE WHEN price.unit = 'words'
                                     THEN ceil(price.charge * credits_words(NEW.stage_run_id, key, price.text_field)
                                               / 100.0)
                                     ELSE price.charge END::bigint AS amount
                      FROM taken
                ), made AS (
                    INSERT INTO credits_line (transfer_id, book, account_id, amount, stage_run_id, item_key, kind)
                    SELECT entry, 'available', price.account_id, -amount, NEW.stage_run_id, key, 'charge'
                      FROM priced WHERE amount > 0
                        ON CONFLICT DO NOTHING
                 RETURNING amount
                )
                SELECT coalesce(-sum(amount), 0) INTO charged FROM made;
            END IF;
            INSERT INTO credits_line (transfer_id, book, account_id, amount, item_key, kind)
            VALUES (entry, 'revenue', price.account_id, charged, '', 'charge');
        END IF;

        IF price.cost > 0 THEN
            INSERT INTO credits_transfer (kind, unit, account_id, run_id, stage, price_id, actor, reason, xact)
            VALUES ('cost', 'money', price.account_id, price.run_id, price.stage, price.price_id, 'system', '',
                    pg_current_xact_id()::text::bigint)
            RETURNING id INTO entry;
            IF is_same_for_all THEN
                spent := price.cost * credits_lines_of_items(
                    entry, 'payable', price.account_id, -price.cost, NEW.stage_run_id, 'cost', prefix,
                    NEW.source_id, NEW.first_key, OLD.cursor, NEW.cursor);
            ELSE
                WITH passed AS (
                    SELECT prefix || item.key AS key, (row_number() OVER (ORDER BY item.key) - 1) / pass_size AS number
                      FROM automation_workitem AS item
                     WHERE item.made_by_id = NEW.source_id AND item.key >= NEW.first_key AND item.key > OLD.cursor
                       AND item.key <= NEW.cursor
                ), units AS (
                    SELECT min(key) AS key FROM passed GROUP BY number
                ), tried AS (
                    SELECT units.key, coalesce(failure.attempts, 1) AS attempts, failure.key IS NOT NULL AS is_failed
                      FROM units LEFT JOIN automation_itemfailure AS failure
                        ON has_failed AND failure.stage_run_id = NEW.stage_run_id AND failure.key = units.key
                ), made AS (
                    INSERT INTO credits_line (transfer_id, book, account_id, amount, stage_run_id, item_key, kind)
                    SELECT entry, 'payable', price.account_id,
                           -(CASE WHEN price.unit = 'words' AND NOT is_failed
                                  THEN ceil(price.cost * credits_words(NEW.stage_run_id, key, price.text_field) / 100.0)
                                  ELSE price.cost * attempts END)::bigint, NEW.stage_run_id, key, 'cost'
                      FROM tried
                        ON CONFLICT DO NOTHING
                 RETURNING amount
                )
                SELECT coalesce(-sum(amount), 0) INTO spent FROM made;
            END IF;
            INSERT INTO credits_line (transfer_id, book, account_id, amount, item_key, kind)
            VALUES (entry, 'expense', price.account_id, spent, '', 'cost');
        END IF;

        INSERT INTO credits_usage AS kept (account_id, site_id, run_id, stage_run_id, slice_id, stage, function, month,
                                           items, charged, cost, is_settled)
        VALUES (price.account_id, price.site_id, price.run_id, NEW.stage_run_id, NEW.id, price.stage, price.function,
                date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC')::date, fresh_items, charged, spent, false)
            ON CONFLICT (stage_run_id, slice_id, month, is_settled) DO UPDATE
           SET items = kept.items + excluded.items, charged = kept.charged + excluded.charged,
               cost = kept.cost + excluded.cost;
        UPDATE credits_grant SET done = done + ceil(fresh_items::numeric / price.group_size)::int
         WHERE slice_id = NEW.id AND token = OLD.lease_token;
        RETURN NULL;
    END
    $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('credits', '0006_months_of_accounts'),
    ]

    operations = [
        migrations.RunSQL(LINES_AT_ONCE, migrations.RunSQL.noop),
    ]
