"""Finds the run that a start would repeat: unfinished, with the same pipeline, site, parameters and input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from automation.models import AutomationRun, Site
from automation.models.work import WorkItem
from automation.pipeline import Payload, get_pipeline


def find(
    pipeline_slug: str, site: Site, params: Mapping[str, Any], items: Iterable[Payload] | None
) -> AutomationRun | None:
    """Return the newest unfinished run of the same input, or ``None``.

    Inputs are compared by their number of items and their first item. Raises ``UnknownPipeline`` or ``InvalidParams``.
    """
    pipeline = get_pipeline(pipeline_slug)
    runs = AutomationRun.objects.unfinished().filter(site=site, pipeline=pipeline_slug, cancel_requested_at=None)
    runs = runs.filter(params=pipeline.clean_params(params)).order_by("-created_at", "-id")
    if items is None:
        return runs.first()
    if not runs.exists():
        return None
    given = iter(items)
    first = next(given, None)
    if first is None:
        return None
    count = 1 + sum(1 for _ in given)
    first = pipeline.clean_item(first)
    return next((run for run in runs.filter(total_items=count) if _first_item(run) == first), None)


def _first_item(run: AutomationRun) -> Payload | None:
    items = WorkItem.objects.filter(made_by__run=run, made_by__position=-1).order_by("key")
    return items.values_list("payload", flat=True).first()
