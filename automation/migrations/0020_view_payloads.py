from django.conf import settings
from django.db import migrations

PERMISSIONS = [
    ("operate_automationrun", "Can start, pause, resume and cancel runs"),
    ("view_payloads", "Can see what items contain, their errors and files"),
]


def grant(apps, schema_editor):
    """Whoever could see runs could see what their items contain, and still can."""
    permissions = apps.get_model("auth", "Permission").objects
    view = permissions.filter(content_type__app_label="automation", codename="view_automationrun").first()
    if view is None:  # a new database: nobody has it yet
        return
    wanted, _ = permissions.get_or_create(
        content_type=view.content_type, codename="view_payloads", defaults={"name": dict(PERMISSIONS)["view_payloads"]}
    )
    for group in view.group_set.all():
        group.permissions.add(wanted)
    user = apps.get_model(settings.AUTH_USER_MODEL)
    if hasattr(user, "user_permissions"):
        for person in user.objects.filter(user_permissions=view):
            person.user_permissions.add(wanted)


class Migration(migrations.Migration):
    dependencies = [
        ("automation", "0019_artifacts"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.AlterModelOptions(
            name="automationrun",
            options={"ordering": ["-created_at", "-id"], "permissions": PERMISSIONS},
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
