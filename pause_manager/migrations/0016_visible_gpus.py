from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pause_manager", "0013_two_workers_of_one_name")]

    operations = [
        migrations.AddField(
            model_name="fleetworker",
            name="visible_gpus",
            field=models.JSONField(
                help_text="the UUIDs of the GPUs that it may use; null: all of its node", null=True
            ),
        ),
    ]
