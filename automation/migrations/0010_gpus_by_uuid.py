"""Leases name their GPUs by UUID. Those in force keep what they named, which were indices, as text."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("automation", "0009_lost_slices")]

    operations = [
        migrations.AlterField(
            model_name="workslice",
            name="lease_gpus",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.TextField(), blank=True, default=list, help_text="UUIDs", size=None
            ),
        ),
    ]
