"""Runs with delays, and time that passes for them: their rows go into the past."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F

from automation.models import AutomationRun, StageRun, WorkSlice
from tests.support.factories import make_run
from tests.support.lane_runs import again

BATCHES = {"batch_size": 2, "batch_delay_seconds": 30}


def paced_run(pipeline: str = "numbers", items: int = 6, **pacing: Any) -> AutomationRun:
    return make_run(pipeline, items=items, pace=pacing or BATCHES)


def pass_time(run: AutomationRun, seconds: float) -> None:
    """So many seconds have passed for the delays of the run, and for its clocks."""
    ago = timedelta(seconds=seconds)
    stages = StageRun.objects.filter(run=run)
    WorkSlice.objects.filter(stage_run__run=run).update(finished_at=F("finished_at") - ago)
    WorkSlice.objects.filter(stage_run__run=run).update(available_at=F("available_at") - ago)
    stages.update(started_at=F("started_at") - ago, begins_at=F("begins_at") - ago, finished_at=F("finished_at") - ago)
    run.standstills.update(since=F("since") - ago, until=F("until") - ago)
    AutomationRun.objects.filter(pk=run.pk).update(started_at=F("started_at") - ago)


def begun_at_once(run: AutomationRun) -> list[WorkSlice]:
    """The slices of the run that were ever leased."""
    return list(WorkSlice.objects.filter(stage_run__run=again(run), is_begun=True).order_by("stage_run", "ordinal"))
