"""The pipeline engine: runs, stages, items, slices."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class AutomationConfig(AppConfig):
    name = "automation"
    verbose_name = "Automation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation import checks  # noqa: F401  (they register themselves)
        from automation.agents import registry  # noqa: F401  (they register themselves)
        from automation.files import watch  # noqa: F401
        from automation.leases import loop_beat  # noqa: F401  (they register themselves)
        from automation.reports import payload_access, progress_notifier  # noqa: F401  (they register themselves)
        from automation.runs import lifecycle  # noqa: F401  (they register themselves)
        from automation.worker import signals  # noqa: F401  (they register themselves)
        from automation.workload import drain, in_progress, visibility  # noqa: F401  (they register themselves)

        autodiscover_modules("pipelines")
