"""Each run knows its lane; those that are there are in that of their site."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("automation", "0007_run_timeout"),
    ]

    operations = [
        migrations.AddField(
            model_name="automationrun",
            name="lane",
            field=models.CharField(
                db_default="", editable=False, help_text="slug of its site when it was created", max_length=60
            ),
        ),
        migrations.RunSQL(
            "UPDATE automation_automationrun AS run SET lane = site.slug "
            "FROM automation_site AS site WHERE site.id = run.site_id",
            migrations.RunSQL.noop,
        ),
    ]
