"""Lanes and dependencies. Every running run holds a place in its lane, however many of it run."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('automation', '0022_schedules'),
    ]

    operations = [
        migrations.CreateModel(
            name='Lane',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60, unique=True)),
                ('policy', models.CharField(choices=[('strict', 'strict: a paused run keeps its place, and those behind it wait'), ('skip_parked', 'skip parked: a paused run leaves its place to the next')], db_default='strict', default='strict', max_length=12)),
                ('width', models.PositiveSmallIntegerField(db_default=1, default=1, help_text='runs at a time', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)])),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='RunDependency',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('satisfied_at', models.DateTimeField(editable=False, null=True)),
                ('released_at', models.DateTimeField(editable=False, null=True)),
                ('released_by', models.CharField(blank=True, db_default='', default='', max_length=160)),
                ('release_reason', models.TextField(blank=True, db_default='', default='')),
            ],
            options={
                'ordering': ['run', 'created_at'],
            },
        ),
        migrations.AddField(
            model_name='automationrun',
            name='lane_order',
            field=models.IntegerField(db_default=0, default=0, editable=False, help_text='among runs of its lane and priority; moved by hand'),
        ),
        migrations.AddField(
            model_name='automationrun',
            name='lane_seat_at',
            field=models.DateTimeField(editable=False, help_text='since when it holds a place in its lane; empty: it holds none', null=True),
        ),
        migrations.RunSQL(
            "UPDATE automation_automationrun SET lane_seat_at = coalesce(started_at, statement_timestamp()), "
            "start_requested_at = coalesce(start_requested_at, started_at, created_at) "
            "WHERE lifecycle = 'running' AND finished_at IS NULL",
            migrations.RunSQL.noop,
        ),
        migrations.AddIndex(
            model_name='automationrun',
            index=models.Index(condition=models.Q(('lane_seat_at__isnull', False)), fields=['lane'], name='run_with_a_place'),
        ),
        migrations.AddIndex(
            model_name='automationrun',
            index=models.Index(condition=models.Q(('finished_at__isnull', True)), fields=['lane'], name='run_unfinished_in_lane'),
        ),
        migrations.AddIndex(
            model_name='automationrun',
            index=models.Index(condition=models.Q(('cancel_requested_at__isnull', True), ('finished_at__isnull', True), ('lane_seat_at__isnull', True), ('start_requested_at__isnull', False)), fields=['lane', 'priority', 'lane_order', 'created_at', 'id'], name='run_waiting_in_lane'),
        ),
        migrations.AddConstraint(
            model_name='automationrun',
            constraint=models.CheckConstraint(condition=models.Q(('lane_seat_at__isnull', True), ('lifecycle', 'running'), _connector='OR'), name='run_with_a_place_is_running'),
        ),
        migrations.AddConstraint(
            model_name='lane',
            constraint=models.CheckConstraint(condition=models.Q(('width__range', (1, 10000))), name='lane_width_is_at_least_1'),
        ),
        migrations.AddField(
            model_name='rundependency',
            name='after',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='dependents', to='automation.automationrun'),
        ),
        migrations.AddField(
            model_name='rundependency',
            name='run',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='dependencies', to='automation.automationrun'),
        ),
        migrations.AddIndex(
            model_name='rundependency',
            index=models.Index(condition=models.Q(('released_at__isnull', True), ('satisfied_at__isnull', True)), fields=['run'], name='dependency_unmet'),
        ),
        migrations.AddIndex(
            model_name='rundependency',
            index=models.Index(condition=models.Q(('released_at__isnull', True), ('satisfied_at__isnull', True)), fields=['after'], name='dependency_awaited'),
        ),
        migrations.AddConstraint(
            model_name='rundependency',
            constraint=models.UniqueConstraint(fields=('run', 'after'), name='one_dependency'),
        ),
        migrations.AddConstraint(
            model_name='rundependency',
            constraint=models.CheckConstraint(condition=models.Q(('run', models.F('after')), _negated=True), name='no_run_waits_for_itself'),
        ),
        migrations.AddConstraint(
            model_name='rundependency',
            constraint=models.CheckConstraint(condition=models.Q(('released_at__isnull', True), models.Q(('released_by', ''), _negated=True), _connector='OR'), name='dependency_release_names_its_actor'),
        ),
    ]
