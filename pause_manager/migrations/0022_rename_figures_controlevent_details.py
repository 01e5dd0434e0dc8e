"""What an event records beside the change is called its details."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pause_manager", "0021_fleetworker_files")]

    operations = [migrations.RenameField("controlevent", "figures", "details")]
