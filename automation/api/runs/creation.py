"""Creates a run from a validated request."""

from __future__ import annotations

from typing import Any

from automation.api.runs import selection
from automation.inputs import Input
from automation.models import AutomationRun
from automation.pipeline import get_pipeline, run_input
from automation.runs import creation
from pause_manager.actor import Actor


def create(user: Any, given: dict[str, Any], actor: Actor) -> tuple[AutomationRun, Input | None]:
    """Create the run that a validated request asks for, and return it with the input that was read.

    Raises what ``runs.creation.create`` does, and ``SiteNotFound``.
    """
    site = selection.find_site(user, given["site"])
    items = _items(given)
    run = creation.create(
        given["pipeline"],
        site=site,
        actor=actor,
        params=given.get("params"),
        pace=given.get("pacing"),
        items=items,
        start=given["start"],
        timeout_seconds=given.get("timeout_seconds"),
        priority=given["priority"],
        after=given["after"],
    )
    return run, items


def _items(given: dict[str, Any]) -> Input | None:
    pipeline = get_pipeline(given["pipeline"])
    is_given = "input" in given or given.get("items") is not None
    run_input.check_need(pipeline, is_given=is_given)
    if not is_given:
        return None
    pipeline.clean_params(given.get("params") or {})
    if "input" in given:
        return run_input.of_file(pipeline, given["input"], given["input"].name)
    return run_input.of_records(pipeline, given["items"])
