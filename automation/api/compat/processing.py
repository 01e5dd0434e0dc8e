"""The current stage of a run with the items now and next."""

from __future__ import annotations

from typing import Any

from automation.api.runs import selection
from automation.models import AutomationRun, Lifecycle
from automation.reports import payload_access, progress, up_next

NOTHING: dict[str, Any] = {
    "run_id": None,
    "status": None,
    "stage": None,
    "title": None,
    "total_items": 0,
    "processed_items": 0,
    "failed_items": 0,
    "remaining_count": 0,
    "percentage": 0.0,
    "now": [],
    "next": [],
    "overall": None,
}


def of_run(run: AutomationRun, *, is_shown: bool) -> dict[str, Any]:
    """The body of ``current_processing``: the first running stage, else the last that ended.

    Titles of items are their keys unless ``is_shown``.
    """
    snapshot = progress.snapshot(run)
    stage = _current(run, snapshot["stages"])
    counts = {name: stage[name] for name in stage.keys() & NOTHING.keys() - {"status"}}
    return {
        **counts,
        "run_id": run.pk,
        "status": selection.shown_status(run),
        "stage": stage["slug"],
        "now": [_at_work(run.pipeline, lease, is_shown) for lease in snapshot["in_flight"]],
        "next": [one if is_shown else one | {"title": one["key"]} for one in up_next.of_run(run.pk)],
        "overall": snapshot["overall"],
    }


def _current(run: AutomationRun, stages: list[dict[str, Any]]) -> dict[str, Any]:
    lifecycles = dict(run.stages.values_list("slug", "lifecycle"))
    for wanted in (Lifecycle.RUNNING, Lifecycle.COMPLETED):
        found = [stage for stage in stages if lifecycles[stage["slug"]] == wanted]
        if found:
            return found[0] if wanted == Lifecycle.RUNNING else found[-1]
    return stages[0]


def _at_work(pipeline: str, lease: dict[str, Any], is_shown: bool) -> dict[str, Any]:
    item = lease["items"][0] if lease["items"] else None
    return {
        "stage": lease["stage"],
        "key": lease["item"],
        "title": payload_access.label_of(pipeline, lease["stage"], item["payload"], item["key"], is_shown=is_shown)
        if item
        else str(lease["item"]),
        "worker": lease["worker"],
        "since": lease["since"],
    }
