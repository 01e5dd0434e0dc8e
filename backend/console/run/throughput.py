"""The throughput of a run as a chart: items per minute over its life, above the bands of what stopped it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string

from automation.models import AutomationRun, StageRun
from automation.reports import throughput
from automation.reports.throughput import Step
from backend.console.overview.charts import nice
from backend.console.run import timeline
from pause_manager.console.live.sse import Update

WIDTH, HEIGHT = timeline.WIDTH, 120.0
REFRESH_SECONDS = 5.0
NEVER = datetime.max.replace(tzinfo=UTC)
"""The end of what lasts."""


@dataclass(frozen=True)
class Column:
    """One step: its rates per minute, and its boxes in the drawing."""

    step: Step
    rate: float
    failed_rate: float
    is_stopped: bool
    """A stop covers all of it."""
    x: float
    width: float
    y: float
    height: float
    failed_y: float
    failed_height: float


def drawing(run: AutomationRun, stage_runs: Sequence[StageRun]) -> dict[str, Any]:
    """The context of the chart; without columns for a run of which nothing has been done yet."""
    if run.started_at is None:
        return {}
    stops = timeline.stops_of(run)
    stretches = [(stop.since, stop.until or NEVER) for stop in stops]
    found = throughput.of_run(run, stage_runs, stretches)
    if not any(step.processed or step.failed for step in found.steps):
        return {}
    # The step that has just begun counts as half a one at least: a moment's luck is no rate.
    seconds = [max(step.seconds, found.step_seconds / 2) for step in found.steps]
    rates = [
        (60 * step.processed / length, 60 * step.failed / length)
        for step, length in zip(found.steps, seconds, strict=True)
    ]
    top = nice(round(max(good + bad for good, bad in rates)))
    begin, end = found.steps[0].since, found.steps[-1].until
    scale = WIDTH / (end - begin).total_seconds()
    columns = []
    for step, (good, bad) in zip(found.steps, rates, strict=True):
        tall, red = HEIGHT * good / top, HEIGHT * bad / top
        x = (step.since - begin).total_seconds() * scale
        is_stopped = any(since <= step.since and step.until <= until for since, until in stretches)
        boxes = (x, max(step.seconds * scale - 1, 0.8), HEIGHT - tall, tall, HEIGHT - tall - red, red)
        columns.append(Column(step, good, bad, is_stopped, *(round(one, 2) for one in boxes)))
    life = [column for column in columns if not column.is_stopped]
    return {
        "columns": columns,
        "bands": [stop.band(begin, end) for stop in stops],
        "top": top,
        "width": WIDTH,
        "height": HEIGHT,
        "begin": begin,
        "end": run.finished_at,
        "is_estimate": found.is_estimate,
        "step_seconds": found.step_seconds,
        "mean": 60 * sum(one.step.processed for one in life) / max(1e-9, sum(one.step.seconds for one in life)),
        "best": max(one.rate for one in columns),
    }


def update(run_id: UUID) -> Update | None:
    """Render the chart for the live stream; ``None`` if the run no longer exists."""
    run = AutomationRun.objects.filter(pk=run_id).first()
    if run is None:
        return None
    found = drawing(run, list(run.stages.order_by("position")))
    return Update(render_to_string("console/run/_throughput.html", {"throughput": found, "run": run}))
