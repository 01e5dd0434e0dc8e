"""The function that ``copying.read`` reads a chunk of items with.

Statistics never keep up with a table that a stage has just filled: the planner takes a few rows for granted and sorts
all that is left of the stage for each chunk. The function walks the index, whatever it is believed to hold.
"""

from django.db import migrations

CREATE = """
CREATE FUNCTION automation_items(source bigint, first text, after text, up_to text, at_most int) RETURNS text
LANGUAGE sql STABLE SET enable_bitmapscan = off SET enable_seqscan = off SET enable_sort = off AS $$
    SELECT '[' || coalesce(string_agg('["' || key || '",' || payload || ']', ','), '') || ']'
      FROM (SELECT key, payload::text
              FROM automation_workitem
             WHERE made_by_id = source AND key >= first AND key > after AND key <= up_to
             ORDER BY key LIMIT at_most) AS chunk
$$
"""


class Migration(migrations.Migration):
    dependencies = [("automation", "0003_capacity")]

    operations = [
        migrations.RunSQL(
            CREATE, reverse_sql="DROP FUNCTION automation_items(bigint, text, text, text, int)"
        )
    ]
