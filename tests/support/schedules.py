"""Schedules of the drill pipeline, and the clock moved under them: their rows go into the past."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from automation.models import Schedule, ScheduleOccurrence, Site
from automation.schedules import definitions
from pause_manager.models.clock import database_now
from tests.support.factories import OPERATOR, make_site

FEW = {"items": 3, "seconds": 0.0}


def make_schedule(site: Site | None = None, name: str = "nightly", **fields: Any) -> Schedule:
    """Every hour at the full hour, unless ``fields`` say otherwise."""
    rule = {} if "kind" in fields else {"kind": "cron", "cron": "0 * * * *"}
    given = {"name": name, "pipeline": "drill", "params": FEW, **rule, **fields}
    return definitions.create(site or make_site(), given, actor=OPERATOR)


def last_due(schedule: Schedule, count: int = 1) -> list[datetime]:
    """The last ``count`` times at which the schedule should have come, oldest first."""
    now = database_now()
    found = [at for at in schedule.rule.take(now - timedelta(days=60), 2000) if at <= now]
    return found[-count:]


def come_due(schedule: Schedule, count: int = 1) -> list[datetime]:
    """Nobody has looked at the schedule for its last ``count`` times; returns these."""
    times = last_due(schedule, count)
    Schedule.objects.filter(pk=schedule.pk).update(next_due_at=times[0])
    return times


def outcomes(schedule: Schedule) -> list[tuple[datetime, str]]:
    """(time, outcome) of its occurrences, oldest first."""
    return list(
        ScheduleOccurrence.objects.filter(schedule=schedule).order_by("due_at").values_list("due_at", "outcome")
    )


def reason_of(schedule: Schedule, due_at: datetime) -> str:
    return ScheduleOccurrence.objects.get(schedule=schedule, due_at=due_at).reason
