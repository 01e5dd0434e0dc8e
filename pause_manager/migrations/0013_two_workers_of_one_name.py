from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pause_manager', '0012_supervised_workers'),
    ]

    operations = [
        # The column and its unique index stay as workers of the release before know them.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE pause_manager_fleetworker ALTER COLUMN name TYPE varchar(500)",
                    "ALTER TABLE pause_manager_fleetworker ALTER COLUMN name TYPE varchar(255)",
                )
            ],
            state_operations=[
                migrations.RenameField(model_name='fleetworker', old_name='name', new_name='key'),
                migrations.AlterField(
                    model_name='fleetworker',
                    name='key',
                    field=models.CharField(db_column='name', help_text='its name, and in a line of its own its main process', max_length=500, unique=True),
                ),
                migrations.AlterModelOptions(name='fleetworker', options={'ordering': ['name']}),
            ],
        ),
        migrations.AddField(
            model_name='fleetworker',
            name='name',
            field=models.GeneratedField(
                db_column='worker_name',
                db_persist=True,
                expression=models.Func(models.F('key'), models.Value('\n'), models.Value(1), function='split_part'),
                help_text="Celery's name of the worker",
                output_field=models.CharField(max_length=255),
            ),
        ),
    ]
