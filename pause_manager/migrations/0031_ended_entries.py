"""What has left the pause queue is listed by how it ended."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("pause_manager", "0030_counter_samples")]

    operations = [
        AddIndexConcurrently(
            model_name="pausequeueentry",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)), fields=["outcome", "-id"], name="entry_by_outcome"
            ),
        ),
    ]
