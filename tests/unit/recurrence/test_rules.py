"""When rules come, in words and in times, over the changes to and from summer time."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django_celery_beat.tzcrontab import TzAwareCrontab
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.recurrence import InvalidRule, Rule, wall_clock

BERLIN = ZoneInfo("Europe/Berlin")
EIGHT = time(8)


def shown(rule: Rule, after: datetime, count: int) -> list[str]:
    return [f"{at.astimezone(rule.zone):%Y-%m-%d %H:%M %Z}" for at in rule.take(after, count)]


def berlin(*at: int) -> datetime:
    return datetime(*at, tzinfo=BERLIN)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("daily", "Europe/Berlin", at=EIGHT), "every day 08:00, Europe/Berlin"),
        (Rule("weekly", "Europe/Berlin", at=EIGHT, weekdays="mon-fri"), "weekdays 08:00, Europe/Berlin"),
        (Rule("weekly", at=time(22, 30), weekdays="wed,sun,mon"), "Monday, Wednesday, Sunday 22:30, UTC"),
        (Rule("weekly", at=EIGHT, weekdays="sat-sun"), "weekends 08:00, UTC"),
        (Rule("monthly", at=EIGHT, day_of_month=31), "monthly on day 31 (or the last) 08:00, UTC"),
        (Rule("monthly", at=EIGHT, day_of_month=3), "monthly on day 3 08:00, UTC"),
        (Rule("cron", cron="0 8 * * 1-5"), "weekdays 08:00, UTC"),
        (Rule("cron", cron="*/15 * * * *"), "every 15 minutes, UTC"),
        (Rule("cron", cron="0 * * * mon-fri"), "weekdays, every hour, UTC"),
        (Rule("cron", cron="0 8,20 * * *"), "every day 08:00 and 20:00, UTC"),
        (Rule("cron", cron="5  4 1-7 * mon"), "cron 5 4 1-7 * mon, UTC"),
        (Rule("cron", cron="7 * * * *"), "cron 7 * * * *, UTC"),
        (Rule("interval", every_minutes=120), "every 2 hours"),
        (Rule("interval", every_minutes=90), "every 90 minutes"),
    ],
)
def test_a_rule_is_said_in_words(rule, words):
    rule.check()

    assert rule.words() == words


def test_a_time_that_does_not_exist_comes_at_the_next_one_that_does():
    rule = Rule("daily", "Europe/Berlin", at=time(2, 30))

    assert shown(rule, berlin(2026, 3, 28, 1), 3) == [
        "2026-03-28 02:30 CET",
        "2026-03-29 03:00 CEST",
        "2026-03-30 02:30 CEST",
    ]


def test_times_that_a_gap_moves_together_come_once():
    rule = Rule("cron", "Europe/Berlin", cron="*/20 * * * *")

    assert shown(rule, berlin(2026, 3, 29, 1, 30), 3) == [
        "2026-03-29 01:40 CET",
        "2026-03-29 03:00 CEST",
        "2026-03-29 03:20 CEST",
    ]


def test_a_time_that_comes_twice_runs_once():
    rule = Rule("daily", "Europe/Berlin", at=time(2, 30))

    assert shown(rule, berlin(2026, 10, 24, 12), 2) == ["2026-10-25 02:30 CEST", "2026-10-26 02:30 CET"]
    # Between the two 02:30, and after the second.
    between, after = (datetime(2026, 10, 25, hour, 45, tzinfo=UTC) for hour in (0, 1))
    assert shown(rule, between, 1) == shown(rule, after, 1) == ["2026-10-26 02:30 CET"]


def test_an_interval_counts_hours_whatever_the_clocks_do():
    rule = Rule("interval", "Europe/Berlin", every_minutes=60, anchor=berlin(2026, 3, 29, 0, 15))

    assert shown(rule, berlin(2026, 3, 29, 0, 30), 3) == [
        "2026-03-29 01:15 CET",
        "2026-03-29 03:15 CEST",
        "2026-03-29 04:15 CEST",
    ]


def test_day_31_is_the_last_of_a_shorter_month():
    rule = Rule("monthly", at=EIGHT, day_of_month=31)

    days = [at.strftime("%m-%d") for at in rule.take(datetime(2028, 1, 1, tzinfo=UTC), 4)]
    assert days == ["01-31", "02-29", "03-31", "04-30"]


def test_a_day_before_eight_is_eight_over_a_change_of_the_clocks():
    at = berlin(2026, 3, 29, 8).astimezone(UTC)

    assert wall_clock.earlier(at, timedelta(hours=23), BERLIN) == berlin(2026, 3, 28, 9)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Rule("hourly"), "kind: expected one of daily, weekly, monthly, cron, interval, got: 'hourly'."),
        (Rule("daily"), "at: expected a value, since the rule is daily."),
        (
            Rule("daily", at=EIGHT, cron="* * * * *"),
            "cron: expected none, since the rule is daily (which takes at).",
        ),
        (Rule("daily", "Berlin", at=EIGHT), "time_zone: expected an IANA name such as Europe/Berlin, got: 'Berlin'."),
        (Rule("daily", at=time(8, 0, 30)), "at: expected hours and minutes such as 08:00, got: 08:00:30."),
        (Rule("monthly", at=EIGHT, day_of_month=32), "day_of_month: expected 1 to 31, got: 32."),
        (Rule("interval", every_minutes=0), "every_minutes: expected 1 to 527,040, got: 0."),
        (
            Rule("weekly", at=EIGHT, weekdays="mon-fry"),
            "weekdays: weekday: expected 0 to 6 or sun, mon, tue, wed, thu, fri, sat, got: 'fry'.",
        ),
        (
            Rule("cron", cron="0 8 * *"),
            "cron: expected five fields (minute hour day-of-month month weekday), got 4.",
        ),
        (Rule("cron", cron="60 8 * * *"), "cron: minute: expected 0 to 59, got: '60'."),
        (
            Rule("cron", cron="*/5-7 8 * * *"),
            "cron: minute: expected *, 5, 1-5, */15 or a list of these, got: '*/5-7'.",
        ),
        (Rule("cron", cron="0 mon * * *"), "cron: hour: expected 0 to 23, got: 'mon'."),
        (Rule("cron", cron="*/0 8 * * *"), "cron: minute: expected a step from 1 to 59, got: '*/0'."),
        (
            Rule("cron", cron="0 0 30 2 *"),
            "cron: expected a day that exists, got: '0 0 30 2 *', which never comes.",
        ),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(rule, sentence):
    with pytest.raises(InvalidRule) as told:
        rule.check()

    assert str(told.value) == sentence


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/15", "1-50/7", "5,35"]),
    st.sampled_from(["*", "8", "*/6", "9-17", "22-3"]),
    st.sampled_from(["*", "1", "10-15", "28"]),
    st.sampled_from(["*", "2", "jan-mar", "*/5"]),
    st.sampled_from(["*", "1-5", "sat,sun", "fri-mon"]),
)


@given(FIELDS, st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)))
def test_an_expression_means_what_it_means_to_celery_beat(fields, after):
    """Where clocks do not change, the next time is the one of ``django_celery_beat``, so its users can move here."""
    after = after.replace(second=0, microsecond=0, tzinfo=UTC)
    minute, hour, day, month, weekday = fields
    theirs = TzAwareCrontab(minute, hour, weekday, day, month, tz=UTC)
    theirs.nowfun = lambda: after
    ours = Rule("cron", cron=" ".join(fields)).next(after)

    assert ours == after + theirs.remaining_estimate(after)
