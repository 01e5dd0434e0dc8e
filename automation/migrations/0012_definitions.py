"""Runs keep their stages as they were declared.

No table is rewritten. Rows that are there get ``{}`` by a default that goes again at once; so rows that the release
before adds meanwhile have NULL, and a small index finds them.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

_DEFINITION = {
    "editable": False,
    "help_text": "as its pipeline declared it when the run was created; {} if the run ended before this was kept",
    "null": True,
}


class Migration(migrations.Migration):
    dependencies = [("automation", "0011_failed_items")]

    operations = [
        migrations.AddField(
            "stagerun", "definition", models.JSONField(**_DEFINITION, db_default=models.Value({}, models.JSONField()))
        ),
        migrations.AlterField("stagerun", "definition", models.JSONField(**_DEFINITION)),
        migrations.CreateModel(
            name="Standstill",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.CharField(help_text="the reason, as the gate names it", max_length=20)),
                ("since", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("until", models.DateTimeField(blank=True, null=True)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="standstills",
                        to="automation.automationrun",
                    ),
                ),
            ],
            options={
                "ordering": ["run", "since"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("until__isnull", True)), fields=("run", "code"), name="one_standstill"
                    )
                ],
            },
        ),
    ]
