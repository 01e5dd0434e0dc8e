from django.db import migrations, models
from django.db.models import Q

import automation.contrib.credits.models.accounts

# The invoices of before are of calendar months in UTC.
FILL = """
    SELECT set_config('credits.erasing_in', pg_current_xact_id()::text, true);
    UPDATE credits_invoice
       SET starts_at = month::timestamp AT TIME ZONE 'UTC',
           ends_at = (month + interval '1 month') AT TIME ZONE 'UTC',
           time_zone = 'UTC',
           credit_price = CASE WHEN credits = 0 THEN 10000 ELSE round(amount * 1000.0 / credits) END;
    SELECT set_config('credits.erasing_in', '', true);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('credits', '0005_payments'),
    ]

    operations = [
        migrations.AddField(
            model_name='billing',
            name='low_mailed_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='billing',
            name='notice_email',
            field=models.EmailField(blank=True, db_default='', default='', help_text='who is written to when the credits are low; empty: nobody', max_length=254),
        ),
        migrations.AddField(
            model_name='billing',
            name='time_zone',
            field=models.CharField(db_default='UTC', default='UTC', help_text='in which the months of invoices begin, such as Europe/Berlin', max_length=64, validators=[automation.contrib.credits.models.accounts.check_time_zone]),
        ),
        migrations.AlterField(
            model_name='invoice',
            name='month',
            field=models.DateField(help_text='its first day'),
        ),
        *(
            migrations.AddField(model_name='invoice', name=name, field=field)
            for name, field in (
                ('starts_at', models.DateTimeField(null=True)),
                ('ends_at', models.DateTimeField(null=True)),
                ('time_zone', models.CharField(max_length=64, null=True)),
                ('credit_price', models.PositiveIntegerField(null=True)),
            )
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        *(
            migrations.AlterField(model_name='invoice', name=name, field=field)
            for name, field in (
                ('starts_at', models.DateTimeField(help_text='what was used from then on')),
                ('ends_at', models.DateTimeField(help_text='and before that')),
                ('time_zone', models.CharField(help_text='of the account, in which the month is', max_length=64)),
                ('credit_price', models.PositiveIntegerField(help_text='of a credit, in millionths of the currency')),
            )
        ),
        migrations.AddIndex(
            model_name='line',
            index=models.Index(condition=Q(book='revenue'), fields=['transfer'], include=('amount',), name='credits_revenue'),
        ),
    ]
