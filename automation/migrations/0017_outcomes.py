"""Whose fault it was: what a slice and a stage remember of attempts that came to nothing. Items are read by bytes.

The index is built beside the work that goes on. ``automation_items`` with five arguments stays for workers of before.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

READ = """
CREATE FUNCTION automation_items(
    source bigint, first text, after text, up_to text, at_most int, most_bytes bigint
) RETURNS text
LANGUAGE sql STABLE SET enable_bitmapscan = off SET enable_seqscan = off SET enable_sort = off AS $$
    SELECT '[' || coalesce(string_agg(line, ','), '') || ']'
      FROM (SELECT line, sum(octet_length(line)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(line) AS before
              FROM (SELECT '["' || key || '",' || payload || ']' AS line
                      FROM (SELECT key, payload, sum(pg_column_size(payload)) OVER (ROWS UNBOUNDED PRECEDING)
                                                 - pg_column_size(payload) AS stored_before
                              FROM (SELECT key, payload FROM automation_workitem
                                     WHERE made_by_id = source AND key >= first AND key > after AND key <= up_to
                                     ORDER BY key LIMIT at_most) AS next) AS stored
                     WHERE stored_before < most_bytes OFFSET 0) AS lines) AS sized
     WHERE before < most_bytes
$$
"""


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("automation", "0016_fill_accounts")]

    operations = [
        migrations.RunSQL(READ, reverse_sql="DROP FUNCTION automation_items(bigint, text, text, text, int, bigint)"),
        migrations.AddField(
            model_name="stagerun",
            name="loop_failures",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="loops that failed one after the other without any progress",
            ),
        ),
        migrations.AddField(
            model_name="stagerun",
            name="loop_error",
            field=models.TextField(blank=True, db_default="", default="", help_text="of the last of them"),
        ),
        migrations.AddField(
            model_name="stagerun",
            name="loop_retry_at",
            field=models.DateTimeField(blank=True, help_text="no loop is sent for before this time", null=True),
        ),
        migrations.AlterField(
            model_name="workslice",
            name="crashes",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="processes that died, provably, on the item after the cursor"
            ),
        ),
        migrations.AddField(
            model_name="workslice",
            name="expiries",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="leases that ended otherwise since the cursor last moved: nobody's fault",
            ),
        ),
        migrations.AddField(
            model_name="workslice",
            name="is_alone",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="what is left of it is one item, or group, that is tried alone",
            ),
        ),
        migrations.AddField(
            model_name="workslice",
            name="waits",
            field=models.PositiveIntegerField(
                db_default=0, default=0, help_text="how often the item after the cursor has asked to be tried later"
            ),
        ),
        migrations.AddField(
            model_name="workslice",
            name="waited_seconds",
            field=models.FloatField(db_default=0, default=0, help_text="for how long in all"),
        ),
        migrations.AddField(
            model_name="workslice",
            name="waits_for",
            field=models.TextField(blank=True, db_default="", default="", help_text="what it said"),
        ),
        migrations.AddField(
            model_name="workslice",
            name="lease_keeper",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="the worker's main process, which renews it",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="workslice",
            name="lease_excused",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="its process was told to end: that it dies proves nothing",
            ),
        ),
        AddIndexConcurrently(
            model_name="workslice",
            index=models.Index(
                fields=["stage_run"],
                condition=models.Q(
                    ("finished_at__isnull", True),
                    models.Q(("waits__gt", 0), ("crashes__gt", 0), ("expiries__gt", 0), _connector="OR"),
                ),
                name="slice_in_trouble",
            ),
        ),
    ]
