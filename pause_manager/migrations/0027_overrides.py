"""A new table: values that operators set for a while."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pause_manager', '0026_resources'),
    ]

    operations = [
        migrations.CreateModel(
            name='Override',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=40)),
                ('target', models.CharField(max_length=200)),
                ('scope', models.CharField(help_text='what it is about, as holds and events name it', max_length=120)),
                ('value', models.JSONField()),
                ('previous', models.JSONField(blank=True, editable=False, null=True)),
                ('reason', models.TextField(blank=True)),
                ('actor', models.CharField(max_length=160)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('expires_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('ended_by', models.CharField(blank=True, max_length=160)),
                ('outcome', models.CharField(blank=True, help_text='what its end did', max_length=300)),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(condition=models.Q(('ended_at__isnull', True)), fields=['expires_at'], name='override_due'), models.Index(condition=models.Q(('ended_at__isnull', False)), fields=['ended_at'], name='override_ended')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('kind', 'target'), name='one_active_override'), models.CheckConstraint(condition=models.Q(('ended_at__isnull', True), models.Q(('ended_by', ''), _negated=True), _connector='OR'), name='an_end_of_an_override_names_its_actor'), models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='override_ends_later')],
            },
        ),
    ]
