"""The pause manager: who may not proceed, and why. Works with any Celery task; knows nothing of runs."""

from django.apps import AppConfig


class PauseManagerConfig(AppConfig):
    name = "pause_manager"
    verbose_name = "Pause manager"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # They register system checks, receivers, loads and blockers, and the bootstep.
        from pause_manager import bootsteps, checks  # noqa: F401
        from pause_manager.fleet import switch  # noqa: F401
        from pause_manager.messaging import event_stream  # noqa: F401
        from pause_manager.pausable import redispatch, workload  # noqa: F401
