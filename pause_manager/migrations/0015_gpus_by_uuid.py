from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pause_manager", "0014_queues_and_watching")]

    operations = [
        migrations.AddField(
            model_name="fleetworker",
            name="visible_gpus",
            field=models.JSONField(
                help_text="the UUIDs of the GPUs that it may use; null: all of its node", null=True
            ),
        ),
    ]
