"""From a request to a new run."""

from __future__ import annotations

from typing import Any

from automation import inputs, lifecycle
from automation.api import runs
from automation.models import AutomationRun
from pause_manager.actor import Actor


def create(user: Any, given: dict[str, Any], actor: Actor) -> AutomationRun:
    """Create the run that a validated request asks for. Raises what ``lifecycle.create`` does, and ``SiteNotFound``."""
    return lifecycle.create(
        given["pipeline"],
        site=runs.find_site(user, given["site"]),
        actor=actor,
        params=given.get("params"),
        items=_items(given),
        start=given["start"],
        timeout_seconds=given.get("timeout_seconds"),
    )


def _items(given: dict[str, Any]) -> Any:
    """The input; keywords are cleaned and repeated ones left out, other items are the pipeline's to judge."""
    if "input" in given:
        return inputs.read_keywords(given["input"], given["input"].name).items()
    records = given.get("items")
    if records and any("keyword" in record for record in records):
        return inputs.from_records(records).items()
    return records
