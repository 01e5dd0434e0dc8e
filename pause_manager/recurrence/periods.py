"""Stretches of time that recur: from each occurrence of a rule, for a length on the same clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from pause_manager.recurrence import wall_clock
from pause_manager.recurrence.rule import Rule

Period = tuple[datetime, datetime]
_MOMENT = timedelta(microseconds=1)
_SLACK = timedelta(hours=3)
"""A change of the clocks makes a stretch of wall-clock time so much longer at most."""


def end_of(rule: Rule, start: datetime, length: timedelta) -> datetime:
    """When a stretch of ``length`` from ``start`` ends: 22:00 and 8 hours is 06:00, in every night of the year."""
    if rule.kind == "interval":
        return start + length
    return wall_clock.moment(start.astimezone(rule.zone).replace(tzinfo=None) + length, rule.zone)


def at(rule: Rule, length: timedelta, moment: datetime) -> Period | None:
    """The stretch that contains ``moment``, from its first to the last end of those that overlap there."""
    found: Period | None = None
    for start in rule.times(moment - length - _SLACK - _MOMENT):
        if start > moment:
            break
        end = end_of(rule, start, length)
        if end > moment:
            found = (found[0] if found else start, max(end, found[1]) if found else end)
    return found


def following(rule: Rule, length: timedelta, moment: datetime) -> Period | None:
    """The first stretch that begins after ``moment``."""
    start = rule.next(moment)
    return None if start is None else (start, end_of(rule, start, length))
