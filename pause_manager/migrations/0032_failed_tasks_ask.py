"""Tasks that have used up their retries wait for a person: what they failed with, and what was decided."""

import django.core.serializers.json
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pause_manager', '0031_ended_entries'),
    ]

    operations = [
        migrations.AddField(
            model_name='pausequeueentry',
            name='answer',
            field=models.CharField(blank=True, choices=[('retry', 'run it again, with all its retries'), ('skip', 'drop it: its task does not run again, and nobody is told a result'), ('fail', 'let it fail with its error, as it would have without being asked')], db_default='', default='', help_text='what a person has decided about the failure; empty while nobody has, or after a new one', max_length=10),
        ),
        migrations.AddField(
            model_name='pausequeueentry',
            name='failure',
            field=models.JSONField(blank=True, encoder=django.core.serializers.json.DjangoJSONEncoder, help_text='what its task failed with when its retries were used up: error, tries, and the exception in parts', null=True),
        ),
        migrations.AlterField(
            model_name='pausequeueentry',
            name='waits_for',
            field=models.CharField(choices=[('capacity', 'want of room: the poll sends it on when there is some'), ('hold', 'a hold alone: sent on as soon as none covers it'), ('answer', "a person's answer: its task has failed, and its retries are used up")], db_default='capacity', default='capacity', max_length=10),
        ),
    ]
