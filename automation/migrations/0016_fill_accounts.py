from django.db import migrations, transaction

SIZE = 5_000

# In the order of the primary key, a batch at a time, each in a transaction of its own: nothing is locked for long.
OF_RUNS = """
    WITH batch AS MATERIALIZED (
        SELECT id, site_id FROM automation_automationrun WHERE id > %(after)s ORDER BY id LIMIT %(size)s
    ), filled AS (
        UPDATE automation_automationrun AS run SET account_id = site.account_id
          FROM batch JOIN automation_site AS site ON site.id = batch.site_id
         WHERE run.id = batch.id AND run.account_id IS DISTINCT FROM site.account_id
    )
    SELECT id FROM batch ORDER BY id DESC LIMIT 1
"""
OF_EVENTS = """
    WITH batch AS MATERIALIZED (
        SELECT id, scope, tenant FROM pause_manager_controlevent WHERE id > %(after)s ORDER BY id LIMIT %(size)s
    ), filled AS (
        UPDATE pause_manager_controlevent AS event SET tenant = run.account_id
          FROM batch JOIN automation_automationrun AS run ON run.id = substr(batch.scope, 5)::uuid
         WHERE event.id = batch.id AND batch.tenant IS NULL
           AND batch.scope ~ '^run:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    )
    SELECT max(id) FROM batch
"""
# The audit trail is append-only. While this fills a column that nothing had filled, and for its transactions alone,
# an update is let through; then the function is again as it was.
KEEP_EVENTS = """
    CREATE OR REPLACE FUNCTION pause_manager_keep_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {fills} THEN
            RETURN NULL;
        END IF;
        IF current_setting('pause_manager.erasing_in', true) IS DISTINCT FROM pg_current_xact_id()::text
           OR TG_OP = 'UPDATE' THEN
            RAISE EXCEPTION 'Cannot % events: the audit trail is append-only.', lower(TG_OP)
                USING ERRCODE = 'restrict_violation',
                      HINT = 'Events are kept for ever. An operator takes old ones away with: manage.py erase_audit';
        END IF;
        RETURN NULL;
    END
    $$;
"""
FILLS = "TG_OP = 'UPDATE' AND current_setting('pause_manager.filling_in', true) = pg_current_xact_id()::text"
FILLING = KEEP_EVENTS.format(fills=FILLS)
AS_BEFORE = KEEP_EVENTS.format(fills="false").replace(
    """        IF false THEN
            RETURN NULL;
        END IF;
""",
    "",
)


def fill(apps, schema_editor):
    _each_batch(schema_editor.connection, OF_RUNS, "00000000-0000-0000-0000-000000000000")
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(FILLING)
    try:
        _each_batch(schema_editor.connection, OF_EVENTS, 0)
    finally:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(AS_BEFORE)


def _each_batch(connection, statement, after):
    while after is not None:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('pause_manager.filling_in', pg_current_xact_id()::text, true)")
            cursor.execute(statement, {"after": after, "size": SIZE})
            row = cursor.fetchone()
        after = row[0] if row else None


class Migration(migrations.Migration):
    """Fills in the account of runs and of their events. Begun again after an end half way, it does the rest."""

    atomic = False

    dependencies = [
        ("automation", "0015_scale"),
        ("pause_manager", "0020_event_tenant"),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
