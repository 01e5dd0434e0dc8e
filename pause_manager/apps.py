"""The pause manager: who may not proceed, and why. Works with any Celery task; knows nothing of runs."""

import django_stubs_ext
from django.apps import AppConfig

# Our admin names the models of Django's generic classes; in a project of somebody else's nobody has made that legal.
django_stubs_ext.monkeypatch()


class PauseManagerConfig(AppConfig):
    name = "pause_manager"
    verbose_name = "Pause manager"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # They register system checks, receivers, gauges, loads and blockers, and the bootstep.
        from pause_manager import announcements, checks, fleet, gauges, redispatch, running_work, worker_steps  # noqa: F401
