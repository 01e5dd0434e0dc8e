import django.core.serializers.json
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pause_manager', '0011_kinds_of_entries'),
    ]

    operations = [
        # The column stays for workers of the release before, which write it; a later release drops it.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE pause_manager_fleetworker ALTER COLUMN queues SET DEFAULT '{}'",
                    "ALTER TABLE pause_manager_fleetworker ALTER COLUMN queues DROP DEFAULT",
                )
            ],
            state_operations=[migrations.RemoveField(model_name='fleetworker', name='queues')],
        ),
        migrations.AddField(
            model_name='controlstate',
            name='revision',
            field=models.PositiveBigIntegerField(db_default=1, default=1, help_text='rises with each change of a hold on the fleet, a queue or a node'),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='clock_offset',
            field=models.FloatField(help_text="seconds by which the database's clock is ahead of its own", null=True),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='in_hand',
            field=models.JSONField(db_default={}, default=dict, help_text='by queue: [at work, received and neither started nor given back]'),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='owner',
            field=models.CharField(db_default='', default='', help_text='its main process, told apart from any other', max_length=200),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='revision',
            field=models.PositiveBigIntegerField(db_default=0, default=0, help_text='of the holds that it obeys; see ControlState'),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='serves',
            field=models.JSONField(db_default=[], default=list, help_text='the queues it serves, held or not'),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='task_names',
            field=models.JSONField(db_default=[], default=list, help_text='the tasks that it knows'),
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='tasks',
            field=models.JSONField(db_default=[], default=list, help_text='the oldest tasks at work in it'),
        ),
        migrations.AddField(
            model_name='hold',
            name='revision',
            field=models.PositiveBigIntegerField(db_default=0, default=0, help_text='of the holds that workers obey, when it was last placed or altered'),
        ),
        migrations.AddField(
            model_name='hold',
            name='stopped',
            field=models.PositiveIntegerField(db_default=0, default=0, help_text='tasks that workers had in hand when they began to obey it'),
        ),
        migrations.AddField(
            model_name='pausequeueentry',
            name='envelope',
            field=models.BinaryField(blank=True, help_text='headers, properties and address of a kept message, whatever they contain', null=True),
        ),
        migrations.AddField(
            model_name='pausequeueentry',
            name='expires_at',
            field=models.DateTimeField(blank=True, help_text='after this time its task no longer runs', null=True),
        ),
        migrations.AddField(
            model_name='pausequeueentry',
            name='problem',
            field=models.CharField(blank=True, choices=[('refused', 'the broker refuses the message'), ('unknown_task', 'no worker that received it knows the task'), ('unreadable', 'the worker that received it refuses its content'), ('unconfirmed', 'it was sent several times and no worker took it up')], db_default='', default='', help_text='why nobody takes it up, if something is wrong with it', max_length=20),
        ),
        migrations.AddField(
            model_name='pausequeueentry',
            name='revoked_at',
            field=models.DateTimeField(blank=True, help_text='when its task was revoked while it waited', null=True),
        ),
        migrations.AddField(
            model_name='runningtask',
            name='turn',
            field=models.UUIDField(help_text='the delivery that wrote the row: a repeat finds it', null=True, unique=True),
        ),
        migrations.AlterField(
            model_name='pausequeueentry',
            name='answered_by',
            field=models.CharField(blank=True, db_default='', default='', help_text='the turn that took it up, or the tag of its message', max_length=200),
        ),
        migrations.AlterField(
            model_name='pausequeueentry',
            name='message',
            field=models.JSONField(blank=True, encoder=django.core.serializers.json.DjangoJSONEncoder, help_text='what people read of a kept message', null=True),
        ),
        migrations.AlterField(
            model_name='pausequeueentry',
            name='outcome',
            field=models.CharField(blank=True, choices=[('sent', 'sent on'), ('dropped', 'dropped: what it was for has ended or goes on by itself, or a person dropped it'), ('expired', 'its time to run was over while it waited'), ('revoked', 'revoked while it waited')], max_length=10),
        ),
        migrations.AlterField(
            model_name='pausequeueentry',
            name='queue',
            field=models.TextField(),
        ),
        migrations.AlterField(
            model_name='pausequeueentry',
            name='task_name',
            field=models.TextField(),
        ),
        migrations.AlterField(
            model_name='runningtask',
            name='node',
            field=models.TextField(),
        ),
        migrations.AlterField(
            model_name='runningtask',
            name='owner',
            field=models.CharField(help_text='the main process of the worker, told apart from any other', max_length=200),
        ),
        migrations.AlterField(
            model_name='runningtask',
            name='queue',
            field=models.TextField(),
        ),
        migrations.AlterField(
            model_name='runningtask',
            name='task_id',
            field=models.TextField(),
        ),
        migrations.AlterField(
            model_name='runningtask',
            name='task_name',
            field=models.TextField(),
        ),
        migrations.AlterField(
            model_name='runningtask',
            name='worker',
            field=models.TextField(help_text="Celery's name of the worker"),
        ),
        migrations.AddIndex(
            model_name='pausequeueentry',
            index=models.Index(condition=models.Q(('problem', ''), _negated=True), fields=['problem'], name='entry_with_problem'),
        ),
        migrations.AddIndex(
            model_name='pausequeueentry',
            index=models.Index(condition=models.Q(('finished_at__isnull', True)), fields=['expires_at'], name='entry_expires'),
        ),
    ]
