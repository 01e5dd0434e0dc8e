"""Runs say how many items they gave up. Those that have completed are counted once, from their failures."""

from django.db import migrations, models

COUNT = """
    UPDATE automation_automationrun AS run SET failed_items = given_up.items
      FROM (SELECT stage.run_id, count(*) AS items
              FROM automation_itemfailure AS failure JOIN automation_stagerun AS stage ON stage.id = failure.stage_run_id
             GROUP BY stage.run_id) AS given_up
     WHERE run.id = given_up.run_id AND run.lifecycle = 'completed'
"""


class Migration(migrations.Migration):
    dependencies = [("automation", "0010_gpus_by_uuid")]

    operations = [
        migrations.AddField(
            model_name="automationrun",
            name="failed_items",
            field=models.PositiveIntegerField(
                db_default=0, default=0, help_text="given up in all stages, counted when it completed; 0 until then"
            ),
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
