"""The sequence that fencing tokens are drawn from."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("automation", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "CREATE SEQUENCE automation_lease_token AS bigint", reverse_sql="DROP SEQUENCE automation_lease_token"
        )
    ]
