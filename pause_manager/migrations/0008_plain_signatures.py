"""Entries of plain signatures are answered like those of kept messages; what was sent before this is taken as answered."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("pause_manager", "0007_audit"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="pausequeueentry",
            name="entry_unanswered",
        ),
        migrations.AddField(
            model_name="pausequeueentry",
            name="answered_by",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="the broker's own name for that message",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="pausequeueentry",
            name="losses",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="how often its message was lost since one was last answered",
            ),
        ),
        migrations.AlterField(
            model_name="pausequeueentry",
            name="answered_at",
            field=models.DateTimeField(
                blank=True, help_text="when a worker took up the message it sent", null=True
            ),
        ),
        migrations.RunSQL(
            "UPDATE pause_manager_pausequeueentry SET answered_at = finished_at "
            "WHERE outcome = 'sent' AND message IS NULL AND answered_at IS NULL",
            migrations.RunSQL.noop,
            elidable=True,
        ),
        migrations.AddIndex(
            model_name="pausequeueentry",
            index=models.Index(
                condition=models.Q(("answered_at__isnull", True), ("outcome", "sent")),
                fields=["queue", "sent_at"],
                name="entry_unanswered",
            ),
        ),
    ]
