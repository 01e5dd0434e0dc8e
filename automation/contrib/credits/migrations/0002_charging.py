from django.db import migrations

# Charges what a checkpoint commits, in its transaction: it fires when a slice counts items as done, whoever moves it. A
# checkpoint is fenced, so a lost lease, a repeat or a crash moves nothing and charges nothing. A stage without a price
# costs one look-up a checkpoint.
CHARGE = """
    CREATE FUNCTION credits_charge() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        price credits_stageprice%ROWTYPE;
        prefix text;
        pass_size int;
        fresh_items int := NEW.processed + NEW.failed - OLD.processed - OLD.failed;
        has_failed boolean := NEW.failed > OLD.failed;
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

        IF price.charge > 0 AND (NEW.processed > OLD.processed OR price.charges_failed) THEN
            INSERT INTO credits_transfer (kind, unit, account_id, run_id, stage, price_id, actor, reason, xact)
            VALUES ('charge', 'credits', price.account_id, price.run_id, price.stage, price.price_id, 'system', '',
                    pg_current_xact_id()::text::bigint)
            RETURNING id INTO entry;
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
                                 THEN ceil(price.charge * credits_words(NEW.stage_run_id, key, price.text_field) / 100.0)
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
            INSERT INTO credits_line (transfer_id, book, account_id, amount, item_key, kind)
            VALUES (entry, 'revenue', price.account_id, charged, '', 'charge');
        END IF;

        IF price.cost > 0 THEN
            INSERT INTO credits_transfer (kind, unit, account_id, run_id, stage, price_id, actor, reason, xact)
            VALUES ('cost', 'money', price.account_id, price.run_id, price.stage, price.price_id, 'system', '',
                    pg_current_xact_id()::text::bigint)
            RETURNING id INTO entry;
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

    CREATE FUNCTION credits_words(stage_run bigint, unit_key text, field text) RETURNS bigint LANGUAGE sql STABLE AS $$
        SELECT coalesce(sum(array_length(regexp_split_to_array(btrim(word_text, E' \\t\\n\\r'), '\\s+'), 1)), 0)
          FROM automation_workitem AS output
         CROSS JOIN LATERAL (
                SELECT output.payload ->> field AS word_text WHERE field <> ''
                 UNION ALL
                SELECT value #>> '{}' FROM jsonb_each(output.payload) WHERE field = '' AND jsonb_typeof(value) = 'string'
               ) AS texts
         WHERE output.made_by_id = stage_run AND output.key > unit_key || '.' AND output.key < unit_key || '/'
           AND btrim(word_text, E' \\t\\n\\r') <> ''
    $$;

    CREATE TRIGGER credits_charge AFTER UPDATE OF processed, failed ON automation_workslice
        FOR EACH ROW WHEN (NEW.processed + NEW.failed > OLD.processed + OLD.failed)
        EXECUTE FUNCTION credits_charge();
"""
CHARGE_NOTHING = """
    DROP TRIGGER credits_charge ON automation_workslice;
    DROP FUNCTION credits_charge();
    DROP FUNCTION credits_words(bigint, text, text);
"""

# A transfer is whole when it commits, and closed: only its own transaction adds lines to it. Nothing is changed later.
BOOKS = """
    CREATE FUNCTION credits_sum_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        difference bigint;
    BEGIN
        SELECT coalesce(sum(amount), 0) INTO difference FROM credits_line WHERE transfer_id = NEW.id;
        IF difference <> 0 THEN
            RAISE EXCEPTION 'transfer % does not add up to zero: it is % off', NEW.id, difference
                  USING ERRCODE = 'check_violation', CONSTRAINT = 'credits_sum_to_zero';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE CONSTRAINT TRIGGER credits_sum_to_zero AFTER INSERT ON credits_transfer
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION credits_sum_to_zero();

    CREATE FUNCTION credits_close_transfers() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM (SELECT DISTINCT transfer_id FROM added) AS given
                     LEFT JOIN credits_transfer AS transfer ON transfer.id = given.transfer_id
                    WHERE transfer.xact IS DISTINCT FROM pg_current_xact_id()::text::bigint) THEN
            RAISE EXCEPTION 'lines are added in the transaction of their transfer only'
                  USING ERRCODE = 'check_violation', CONSTRAINT = 'credits_close_transfers';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER credits_close_transfers AFTER INSERT ON credits_line
        REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION credits_close_transfers();

    CREATE FUNCTION credits_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('credits.erasing_in', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
            RAISE EXCEPTION 'the ledger is append-only: correct a transfer by another'
                  USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER credits_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON credits_transfer
        FOR EACH STATEMENT EXECUTE FUNCTION credits_refuse_change();
    CREATE TRIGGER credits_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON credits_line
        FOR EACH STATEMENT EXECUTE FUNCTION credits_refuse_change();
"""
NO_BOOKS = """
    DROP TRIGGER credits_refuse_change ON credits_line;
    DROP TRIGGER credits_refuse_change ON credits_transfer;
    DROP FUNCTION credits_refuse_change();
    DROP TRIGGER credits_close_transfers ON credits_line;
    DROP FUNCTION credits_close_transfers();
    DROP TRIGGER credits_sum_to_zero ON credits_transfer;
    DROP FUNCTION credits_sum_to_zero();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('credits', '0001_initial'),
        ('automation', '0022_schedules'),
    ]

    operations = [
        migrations.RunSQL(BOOKS, NO_BOOKS),
        migrations.RunSQL(CHARGE, CHARGE_NOTHING),
    ]
