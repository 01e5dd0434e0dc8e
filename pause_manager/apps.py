"""The pause manager: who may not proceed, and why. Works with any Celery task; knows nothing of runs."""

from django.apps import AppConfig


class PauseManagerConfig(AppConfig):
    name = "pause_manager"
    verbose_name = "Pause manager"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # They register system checks, receivers and the bootstep.
        from pause_manager import bootsteps, checks, overrides, workloads  # noqa: F401
        from pause_manager.database import compilation  # noqa: F401
        from pause_manager.messaging import event_stream  # noqa: F401
        from pause_manager.nodes.threshold_overrides import NodeThreshold, PipelineThreshold
        from pause_manager.pausable.workload import PausableTasks
        from pause_manager.pause_queue.workload import PauseQueue
        from pause_manager.resources import limit_overrides
        from pause_manager.resources.workload import Resources

        # In the order in which they follow a change of holds.
        workloads.register(Resources())
        workloads.register(PauseQueue())
        workloads.register(PausableTasks())
        for kind in (NodeThreshold(), PipelineThreshold(), *limit_overrides.KINDS):
            overrides.register(kind)
