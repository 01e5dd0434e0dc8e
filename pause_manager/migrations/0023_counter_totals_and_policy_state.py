"""Name the rows of counters and the column of a node's policy state after what they are."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("pause_manager", "0022_rename_figures_controlevent_details")]

    operations: ClassVar = [
        migrations.RenameModel(old_name="Tally", new_name="CounterTotal"),
        migrations.AlterModelOptions(name="countertotal", options={}),
        migrations.RunSQL(
            "ALTER TABLE pause_manager_countertotal RENAME CONSTRAINT one_tally_per_sample TO one_total_per_sample",
            "ALTER TABLE pause_manager_countertotal RENAME CONSTRAINT one_total_per_sample TO one_tally_per_sample",
            state_operations=[
                migrations.RemoveConstraint(model_name="countertotal", name="one_tally_per_sample"),
                migrations.AddConstraint(
                    model_name="countertotal",
                    constraint=models.UniqueConstraint(fields=["name", "labels"], name="one_total_per_sample"),
                ),
            ],
        ),
        migrations.RenameField(model_name="workernode", old_name="watch", new_name="policy_state"),
        migrations.AlterField(
            model_name="workernode",
            name="policy_state",
            field=models.JSONField(
                db_default={}, default=dict, help_text="What the policy remembers of the node"
            ),
        ),
    ]
