"""The pipeline engine: runs, stages, items, slices."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class AutomationConfig(AppConfig):
    name = "automation"
    verbose_name = "Automation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation import checks  # noqa: F401  (they register themselves)
        from automation.leases import loop_heartbeat  # noqa: F401  (they register themselves)
        from automation.overrides import KINDS
        from automation.pipeline import pacing
        from automation.reports import progress_notifier, run_figures  # noqa: F401  (they register themselves)
        from automation.worker import (
            signals,  # noqa: F401  (they register themselves)
            stage_loop,
        )
        from automation.workload.pipeline_runs import PipelineRuns
        from pause_manager import overrides, workloads
        from pause_manager.observability import counter_history

        workloads.register(PipelineRuns())
        run_figures.register(lambda run: [("Pacing", ", ".join(pacing.words(run.pacing)))] if run.pacing else [])
        counter_history.keep(stage_loop.PROCESSED, stage_loop.FAILED)
        for kind in KINDS:
            overrides.register(kind)
        autodiscover_modules("pipelines")
