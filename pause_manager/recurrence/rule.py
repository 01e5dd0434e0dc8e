"""A rule of recurrence: what it allows, when it comes next, how it is said."""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from pause_manager.errors import PauseManagerError
from pause_manager.recurrence import cron_fields, wall_clock, wording

KINDS = ("daily", "weekly", "monthly", "cron", "interval")
NEEDED = {
    "daily": ("at",),
    "weekly": ("at", "weekdays"),
    "monthly": ("at", "day_of_month"),
    "cron": ("cron",),
    "interval": ("every_minutes",),
}
"""By kind, the fields that it needs; it takes none of the others."""
_HORIZON_DAYS = 366 * 41
"""29 February on a given weekday can be 40 years away."""
LONGEST_INTERVAL_MINUTES = 366 * 24 * 60


def with_kind(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` of a change; with another kind of rule, what only the old kind takes is emptied unless it is given."""
    if "kind" not in fields:
        return dict(fields)
    empty: dict[str, Any] = {"at": None, "weekdays": "", "day_of_month": None, "cron": "", "every_minutes": None}
    kept = NEEDED.get(fields["kind"], ())
    return {**{name: value for name, value in empty.items() if name not in kept}, **fields}


@lru_cache(maxsize=1)
def _zones() -> set[str]:
    return available_timezones()


class InvalidRule(PauseManagerError):
    """A rule of recurrence breaks a rule of its kind; the sentence names the ``field`` and what is allowed."""

    code = "recurrence_invalid"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.")
        self.field = field
        self.rule = rule


@dataclass(frozen=True)
class Rule:
    """``kind`` is one of ``KINDS``; ``weekdays`` as in cron (``mon-fri``); ``time_zone`` an IANA name.

    An ``interval`` counts from ``anchor``, whatever clocks do; the others go by the wall clock. Day 31 of a ``monthly``
    rule is the last day of a shorter month. In a ``cron`` rule both the day of the month and the weekday must fit.
    """

    kind: str
    time_zone: str = "UTC"
    at: time | None = None
    weekdays: str = ""
    day_of_month: int | None = None
    cron: str = ""
    every_minutes: int | None = None
    anchor: datetime | None = None

    def check(self) -> None:
        """Raise :class:`InvalidRule` if it is not a rule, or one that never comes."""
        if self.kind not in NEEDED:
            raise InvalidRule("kind", f"expected one of {', '.join(KINDS)}, got: {self.kind!r}")
        needed = NEEDED[self.kind]
        for name in ("at", "weekdays", "day_of_month", "cron", "every_minutes"):
            value = getattr(self, name)
            if name in needed and value in (None, ""):
                raise InvalidRule(name, f"expected a value, since the rule is {self.kind}")
            if name not in needed and value not in (None, ""):
                allowed = f"the rule is {self.kind} (which takes {', '.join(needed)})"
                raise InvalidRule(name, f"expected none, since {allowed}")
        if self.time_zone not in _zones():
            name = self.time_zone[:64]
            raise InvalidRule("time_zone", f"expected an IANA name such as Europe/Berlin, got: {name!r}")
        if self.at is not None and (self.at.second or self.at.microsecond or self.at.tzinfo):
            raise InvalidRule("at", f"expected hours and minutes such as 08:00, got: {self.at}")
        if self.day_of_month is not None and not 1 <= self.day_of_month <= 31:
            raise InvalidRule("day_of_month", f"expected 1 to 31, got: {self.day_of_month}")
        if self.every_minutes is not None and not 1 <= self.every_minutes <= LONGEST_INTERVAL_MINUTES:
            raise InvalidRule("every_minutes", f"expected 1 to {LONGEST_INTERVAL_MINUTES:,}, got: {self.every_minutes}")
        try:
            fields = self._fields
        except ValueError as error:
            raise InvalidRule("weekdays" if self.kind == "weekly" else "cron", str(error)) from None
        if fields is not None and self.next(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise InvalidRule("cron", f"expected a day that exists, got: {self.cron!r}, which never comes")

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone of its wall clock."""
        return ZoneInfo(self.time_zone)

    @cached_property
    def _fields(self) -> tuple[frozenset[int], ...] | None:
        if self.kind == "interval":
            return None
        if self.kind == "cron":
            return cron_fields.parse(self.cron)
        assert self.at is not None
        weekdays = cron_fields.WEEKDAY.parse(self.weekdays) if self.kind == "weekly" else frozenset(range(7))
        days, months = frozenset(range(1, 32)), frozenset(range(1, 13))
        return frozenset({self.at.minute}), frozenset({self.at.hour}), days, months, weekdays

    def next(self, after: datetime) -> datetime | None:
        """Return the first occurrence after the moment ``after``, in UTC; ``None`` if there is none in 40 years."""
        return next(self.times(after), None)

    def take(self, after: datetime, count: int) -> list[datetime]:
        """Return the next ``count`` occurrences after ``after``."""
        return list(islice(self.times(after), count))

    def times(self, after: datetime) -> Iterator[datetime]:
        """Every occurrence after the moment ``after``, in order, in UTC."""
        return self._interval(after) if self._fields is None else self._by_wall_clock(after)

    def _interval(self, after: datetime) -> Iterator[datetime]:
        assert self.every_minutes is not None
        step = timedelta(minutes=self.every_minutes)
        anchor = (self.anchor or datetime(2000, 1, 1, tzinfo=UTC)).astimezone(UTC)
        found = anchor + step * max(1, (after - anchor) // step + 1)
        while True:
            yield found
            found += step

    def _by_wall_clock(self, after: datetime) -> Iterator[datetime]:
        assert self._fields is not None
        minutes, hours, _, months, _ = self._fields
        clock = [time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)]
        last = after.astimezone(UTC)
        # A gap moves times forward, at most over midnight.
        first = last.astimezone(self.zone).date() - timedelta(days=1)
        for offset in range(_HORIZON_DAYS):
            day = first + timedelta(days=offset)
            if day.month not in months or not self._is_on(day):
                continue
            for at in clock:
                found = wall_clock.moment(datetime.combine(day, at), self.zone)
                if found > last:
                    last = found
                    yield found

    def _is_on(self, day: date) -> bool:
        assert self._fields is not None
        _, _, days, _, weekdays = self._fields
        if self.day_of_month is not None:
            return day.day == min(self.day_of_month, calendar.monthrange(day.year, day.month)[1])
        return day.day in days and day.isoweekday() % 7 in weekdays

    def words(self) -> str:
        """The rule for people: ``weekdays 08:00, Europe/Berlin``."""
        said = wording.interval(self.every_minutes) if self.every_minutes else self._said()
        return said if self.kind == "interval" else f"{said}, {self.time_zone}"

    def _said(self) -> str:
        assert self._fields is not None
        if self.day_of_month is not None:
            assert self.at is not None
            last = " (or the last)" if self.day_of_month > 28 else ""
            return f"monthly on day {self.day_of_month}{last} {self.at:%H:%M}"
        return wording.of_fields(self._fields) or f"cron {' '.join(self.cron.split())}"
