"""The stages of unfinished runs are to be defined: by the reconciler, from the code of the release that runs it.

Not here: ``migrate`` may know no pipelines, or those of another release, and the release before adds runs until it ends.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

PAGE = 1_000


def undefine(apps, schema_editor):
    """A page of runs at a time, so that no statement holds many rows."""
    runs = apps.get_model("automation", "AutomationRun").objects.filter(finished_at__isnull=True).order_by("pk")
    stage_runs = apps.get_model("automation", "StageRun").objects
    page = list(runs.values_list("pk", flat=True)[:PAGE])
    while page:
        stage_runs.filter(run__in=page, position__gte=0, definition={}).update(definition=None)
        page = list(runs.filter(pk__gt=page[-1]).values_list("pk", flat=True)[:PAGE])


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("automation", "0012_definitions")]

    operations = [
        AddIndexConcurrently(
            "stagerun",
            models.Index(
                condition=models.Q(("definition__isnull", True), ("position__gte", 0)),
                fields=["run"],
                name="stage_undefined",
            ),
        ),
        migrations.RunPython(undefine, migrations.RunPython.noop),
    ]
