"""Stretches of wall-clock time that recur."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from pause_manager.recurrence import Rule, periods

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Rule("daily", "Europe/Berlin", at=time(22))
HOURS = timedelta(hours=8)


def shown(period):
    return None if period is None else tuple(f"{at.astimezone(BERLIN):%m-%d %H:%M}" for at in period)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ((2026, 7, 1, 21, 59), None),
        ((2026, 7, 1, 22, 0), ("07-01 22:00", "07-02 06:00")),
        ((2026, 7, 2, 5, 59), ("07-01 22:00", "07-02 06:00")),
        ((2026, 7, 2, 6, 0), None),
        # The nights in which clocks change: an hour less, an hour more.
        ((2026, 3, 29, 5, 30), ("03-28 22:00", "03-29 06:00")),
        ((2026, 3, 29, 6, 0), None),
        ((2026, 10, 25, 5, 30), ("10-24 22:00", "10-25 06:00")),
        ((2026, 10, 25, 6, 0), None),
    ],
)
def test_a_night_ends_at_six_in_every_night_of_the_year(moment, expected):
    at = datetime(*moment).replace(tzinfo=BERLIN)

    assert shown(periods.at(NIGHT, HOURS, at)) == expected


def test_stretches_of_one_rule_that_overlap_are_one():
    rule = Rule("interval", every_minutes=60, anchor=datetime(2026, 7, 1, tzinfo=BERLIN))

    found = periods.at(rule, timedelta(minutes=90), datetime(2026, 7, 1, 5, 15, tzinfo=BERLIN))

    assert shown(found) == ("07-01 04:00", "07-01 06:30")


def test_the_next_stretch():
    found = periods.following(NIGHT, HOURS, datetime(2026, 7, 1, 22, tzinfo=BERLIN))

    assert shown(found) == ("07-02 22:00", "07-03 06:00")
