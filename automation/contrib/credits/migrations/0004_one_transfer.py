from django.db import migrations

# A checkpoint adds thousands of lines to one transfer: that is seen from two of them, without a sort or a join.
CLOSE_TRANSFERS = """
    CREATE OR REPLACE FUNCTION credits_close_transfers() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        first bigint;
        last bigint;
        is_wrong boolean;
    BEGIN
        SELECT min(transfer_id), max(transfer_id) INTO first, last FROM added;
        IF first IS NULL THEN
            RETURN NULL;
        ELSIF first = last THEN
            is_wrong := NOT EXISTS (SELECT 1 FROM credits_transfer
                                     WHERE id = first AND xact = pg_current_xact_id()::text::bigint);
        ELSE
            is_wrong := EXISTS (SELECT 1 FROM (SELECT DISTINCT transfer_id FROM added) AS given
                                  LEFT JOIN credits_transfer AS transfer ON transfer.id = given.transfer_id
                                 WHERE transfer.xact IS DISTINCT FROM pg_current_xact_id()::text::bigint);
        END IF;
        IF is_wrong THEN
            RAISE EXCEPTION 'lines are added in the transaction of their transfer only'
                  USING ERRCODE = 'check_violation', CONSTRAINT = 'credits_close_transfers';
        END IF;
        RETURN NULL;
    END
    $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('credits', '0003_invoices'),
    ]

    operations = [
        migrations.RunSQL(CLOSE_TRANSFERS, migrations.RunSQL.noop),
    ]
