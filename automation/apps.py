"""The pipeline engine: runs, stages, items, slices."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class AutomationConfig(AppConfig):
    name = "automation"
    verbose_name = "Automation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation import (  # noqa: F401  (they register themselves)
            agents,
            announce,
            at_hand,
            audit_readers,
            checks,
            lifecycle,
            loop_beat,
            payload_access,
            work_left,
            worker_signals,
        )
        from automation.files import watch  # noqa: F401

        autodiscover_modules("pipelines")
