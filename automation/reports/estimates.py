"""How long a run would take, by the rates of earlier runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from automation.gate import installed_code
from automation.models import AutomationRun, Lifecycle, Site, StageRun
from automation.reports.working_time import durations_of

MEASURED = 5
"""The rate is taken from that many runs at most, the newest completed ones."""


Part = Callable[[Site, str, int | None], dict[str, Any]]
"""(site, slug of a pipeline, items) to further members of an estimate."""

_parts: list[Part] = []


def register(part: Part) -> Part:
    """Add the members that ``part`` returns to every estimate; call it in ``AppConfig.ready``."""
    _parts.append(part)
    return part


def of_items(site: Site, pipeline: str, items: int | None) -> dict[str, Any]:
    """``{pipeline, items, measured_runs, seconds_per_item, seconds, stages: [{slug, title, seconds_per_item, …}]}``.

    Seconds are of working time, pauses excluded, per item of the run's input. They are ``None`` if no run of the
    pipeline has completed in the account of ``site``, or how many items there would be is not known. Apps add members,
    see :func:`register`.
    """
    rows = AutomationRun.objects.present().filter(
        account_id=site.account_id, pipeline=pipeline, lifecycle=Lifecycle.COMPLETED, total_items__gt=0
    )
    runs = list(rows.order_by("-created_at", "-id")[:MEASURED])
    measured = sum(run.total_items for run in runs)
    durations = durations_of(runs)
    rate = sum(durations[run.pk].active for run in runs) / measured if measured else None
    return {
        "pipeline": pipeline,
        "items": items,
        "measured_runs": len(runs),
        **_of_rate(rate, items),
        "stages": [
            {"slug": slug, "title": installed_code.title_of(pipeline, slug), **_of_rate(seconds / measured, items)}
            for slug, seconds in _seconds_of_stages(runs).items()
        ],
        **{name: value for part in _parts for name, value in part(site, pipeline, items).items()},
    }


def _seconds_of_stages(runs: list[AutomationRun]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    rows = StageRun.objects.filter(run__in=runs, position__gte=0, started_at__isnull=False, finished_at__isnull=False)
    for row in rows.order_by("position", "pk"):
        assert row.started_at is not None
        assert row.finished_at is not None
        paused = row.paused_seconds_at_end - row.paused_seconds_at_start
        found[row.slug] += max(0.0, (row.finished_at - row.started_at).total_seconds() - paused)
    return found


def _of_rate(seconds_per_item: float | None, items: int | None) -> dict[str, float | None]:
    seconds = None if seconds_per_item is None or items is None else round(seconds_per_item * items, 2)
    return {"seconds_per_item": None if seconds_per_item is None else round(seconds_per_item, 4), "seconds": seconds}
