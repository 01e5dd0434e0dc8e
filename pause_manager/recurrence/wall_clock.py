"""Wall-clock times of a zone as moments, over the changes to and from summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_LONGEST_GAP_MINUTES = 2 * 24 * 60
"""Samoa left out a whole day."""


def moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment, in UTC, at which clocks in ``zone`` show ``wall`` (without a zone).

    A time that the change to summer time skips stands for the first one after the gap, a time that comes twice for its
    first.
    """
    for minutes in range(_LONGEST_GAP_MINUTES):
        shown = wall + timedelta(minutes=minutes)
        found = shown.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if found.astimezone(zone).replace(tzinfo=None) == shown:
            return found
    return wall.replace(tzinfo=zone).astimezone(UTC)


def earlier(at: datetime, length: timedelta, zone: ZoneInfo) -> datetime:
    """Return the moment ``length`` before ``at`` on the wall clock: a day before 08:00 is 08:00, also over a change."""
    return moment(at.astimezone(zone).replace(tzinfo=None) - length, zone)
