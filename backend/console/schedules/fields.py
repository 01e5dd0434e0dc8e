"""What a person fills in for a schedule, and what it means: from the texts of a form to the fields of a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from automation.errors import InvalidInput, InvalidSchedule
from automation.models import Schedule
from automation.pipeline import Pipeline, pacing, run_input
from automation.schedules import definitions
from backend.console.param_fields import given_params
from pause_manager.console import rules

LOCAL = "%Y-%m-%dT%H:%M"


def fields_of(given: Mapping[str, str], pipeline: type[Pipeline], *, had_items: bool) -> dict[str, Any]:
    """All fields of a schedule. What is left empty of its input stays if it ``had_items``.

    Raises ``InvalidSchedule``, ``InvalidRule`` or ``InvalidInput``.
    """
    found = rules.rule_of(given) | {
        "name": given.get("name", "").strip(),
        "pipeline": pipeline.slug,
        "params": given_params(given),
        "priority": rules.whole("priority", given.get("priority", "3")),
        "is_enabled": given.get("is_enabled") == "on",
        "catch_up": given.get("catch_up", ""),
        "skip_if_active": given.get("skip_if_active") == "on",
        "min_hours_between": _number("min_hours_between", given.get("min_hours_between", "").strip()),
        "expires_at": _moment("expires_at", given.get("expires_at", "").strip(), given.get("time_zone", "")),
    }
    if "pacing" in given:
        found["pacing"] = pacing.of_options(given["pacing"].replace(",", " ").split())
    text = given.get("text", "")
    if pipeline.needs_input and text.strip():
        found["items"] = _items(pipeline, text)
    elif pipeline.needs_input and not had_items:
        raise InvalidInput(f"Cannot save the schedule: expected {pipeline.reader.needs}, got none.")
    return found


def texts_of(schedule: Schedule) -> dict[str, str]:
    """The fields of ``schedule`` as a form shows them."""
    expires = schedule.expires_at
    return {
        **{name: str(value) for name in ("name", *Schedule.RULE) if (value := getattr(schedule, name)) is not None},
        "at": schedule.at.strftime("%H:%M") if schedule.at else "",
        "priority": str(schedule.priority),
        "pacing": " ".join(pacing.words(schedule.pacing)),
        "catch_up": schedule.catch_up,
        "min_hours_between": "" if schedule.min_hours_between is None else f"{schedule.min_hours_between:g}",
        "expires_at": expires.astimezone(schedule.rule.zone).strftime(LOCAL) if expires else "",
        **{name: "on" for name in ("is_enabled", "skip_if_active") if getattr(schedule, name)},
    }


def _items(pipeline: type[Pipeline], text: str) -> list[Any]:
    read = run_input.of_text(pipeline, text)
    if read.count > (most := definitions.most_items()):
        raise InvalidInput(f"Cannot save the schedule: expected at most {most:,} items, got {read.count:,}.")
    return list(read)


def _number(name: str, text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise _invalid(name, f"expected a number, got: {text[:40]!r}") from None


def _moment(name: str, text: str, zone: str) -> datetime | None:
    """A time on the wall clock of the schedule."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone.strip() or "UTC")) if text else None
    except (ValueError, LookupError, OSError):
        raise _invalid(name, f"expected a date and a time such as 2026-12-31T18:00, got: {text[:40]!r}") from None


def _invalid(name: str, rule: str) -> InvalidSchedule:
    return InvalidSchedule(f"Cannot save the schedule: {name}: {rule}.")
