"""Schedules as they are shown: in words, with their state, what comes next and what came last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from automation.models import Lifecycle, Schedule, ScheduleOccurrence
from automation.models.tables import OCCURRENCE, RUN
from automation.reports import payload_access
from pause_manager.models.clock import database_now

COMING = 5
STATES = ("active", "paused", "disabled", "ended", "site_closed")


def state_of(schedule: Schedule) -> str:
    """One of ``STATES``; the first that applies of: its site is closed, it is off, it is paused, it comes no more."""
    if schedule.site.closed_at or schedule.site.account.closed_at:
        return "site_closed"
    if not schedule.is_enabled:
        return "disabled"
    if schedule.paused_at is not None:
        return "paused"
    return "active" if schedule.next_due_at is not None else "ended"


def coming(schedule: Schedule, count: int = COMING) -> list[dict[str, Any]]:
    """Its next ``count`` times, each with what was decided about it before: ``{due_at, local, outcome, reason}``."""
    return _coming([schedule], count)[schedule.pk]


def shown(schedules: Sequence[Schedule], *, with_payloads: bool = False) -> list[dict[str, Any]]:
    """``schedules`` (with site and account) for JSON, in a constant number of queries.

    Texts that may quote an item are left out unless ``with_payloads``.
    """
    following = _coming(schedules, COMING)
    last = _last(schedules)
    return [
        {
            "id": schedule.pk,
            "name": schedule.name,
            "site": schedule.site.slug,
            "pipeline": schedule.pipeline,
            "in_words": schedule.rule.words(),
            "state": state_of(schedule),
            **{name: getattr(schedule, name) for name in schedule.RULE},
            "at": schedule.at.strftime("%H:%M") if schedule.at else None,
            "params": schedule.params,
            "pacing": schedule.pacing,
            "item_count": None if schedule.items is None else len(schedule.items),
            "priority": schedule.priority,
            "is_enabled": schedule.is_enabled,
            "catch_up": schedule.catch_up,
            "skip_if_active": schedule.skip_if_active,
            "min_hours_between": schedule.hours_between,
            "expires_at": schedule.expires_at,
            "next_due_at": schedule.comes_at,
            "next": following[schedule.pk],
            "last": occurrence(last[schedule.pk], with_payloads=with_payloads) if schedule.pk in last else None,
            "paused_at": schedule.paused_at,
            "paused_by": schedule.paused_by,
            "pause_reason": schedule.pause_reason,
            "paused_until": schedule.paused_until,
            "created_by": schedule.created_by,
            "created_at": schedule.created_at,
        }
        for schedule in schedules
    ]


def occurrence(row: ScheduleOccurrence, *, with_payloads: bool = False) -> dict[str, Any]:
    """An occurrence for JSON; why no run could be made may quote an item."""
    is_told = with_payloads or row.outcome != ScheduleOccurrence.Outcome.FAILED
    return {
        "due_at": row.due_at,
        "outcome": row.outcome,
        "run": row.run_id,
        "reason": row.reason if is_told else payload_access.no_run(row.reason),
        "actor": row.actor,
        "decided_at": row.decided_at,
    }


@dataclass(frozen=True)
class Past:
    """A time at which a schedule came, and what became of it and of its run."""

    occurrence: ScheduleOccurrence
    lifecycle: str
    """Of its run; empty if it has none, or none that is kept."""
    failed_items: int

    @property
    def result(self) -> str:
        """The lifecycle of the run, ``with_failures`` for one that completed so, else the outcome."""
        if self.lifecycle == Lifecycle.COMPLETED and self.failed_items:
            return "with_failures"
        return self.lifecycle or self.occurrence.outcome


def history(schedules: Sequence[Schedule], count: int) -> dict[int, list[Past]]:
    """By schedule, its last ``count`` occurrences that have come, oldest first. One statement."""
    rows: Any = ScheduleOccurrence.objects.raw(
        _HISTORY, {"schedules": [schedule.pk for schedule in schedules], "count": count}
    )
    found: dict[int, list[Past]] = defaultdict(list)
    for row in rows:
        found[row.schedule_id].append(Past(row, row.lifecycle or "", row.failed_items or 0))
    return found


def local(at: datetime, zone: ZoneInfo) -> str:
    """``Mon 2026-11-30 08:00 CET``."""
    return f"{at.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _coming(schedules: Sequence[Schedule], count: int) -> dict[int, list[dict[str, Any]]]:
    now = database_now()
    decided: dict[int, dict[datetime, ScheduleOccurrence]] = defaultdict(dict)
    for row in ScheduleOccurrence.objects.filter(schedule__in=schedules, due_at__gt=now):
        decided[row.schedule_id][row.due_at] = row
    found: dict[int, list[dict[str, Any]]] = {}
    for schedule in schedules:
        times = schedule.rule.take(now, count) if schedule.next_due_at is not None else []
        found[schedule.pk] = [
            {
                "due_at": at,
                "local": local(at, schedule.rule.zone),
                "outcome": was.outcome if (was := decided[schedule.pk].get(at)) else None,
                "reason": was.reason if was else "",
            }
            for at in times
            if schedule.expires_at is None or at <= schedule.expires_at
        ]
    return found


def _last(schedules: Sequence[Schedule]) -> dict[int, ScheduleOccurrence]:
    """The newest occurrence of each that has come."""
    rows = ScheduleOccurrence.objects.raw(_LAST, {"schedules": [schedule.pk for schedule in schedules]})
    return {row.schedule_id: row for row in rows}


_LAST = f"""
    SELECT newest.* FROM unnest(%(schedules)s::bigint[]) AS schedule (id)
      CROSS JOIN LATERAL (
        SELECT * FROM {OCCURRENCE} AS one WHERE one.schedule_id = schedule.id AND one.due_at <= statement_timestamp()
         ORDER BY due_at DESC LIMIT 1) AS newest
"""

_HISTORY = f"""
    SELECT past.*, run.lifecycle, run.failed_items FROM unnest(%(schedules)s::bigint[]) AS schedule (id)
      CROSS JOIN LATERAL (
        SELECT * FROM {OCCURRENCE} AS one WHERE one.schedule_id = schedule.id AND one.due_at <= statement_timestamp()
         ORDER BY due_at DESC LIMIT %(count)s) AS past
      LEFT JOIN {RUN} AS run ON run.id = past.run_id
     ORDER BY past.schedule_id, past.due_at
"""
