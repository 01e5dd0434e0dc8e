"""How rules of recurrence are said."""

from __future__ import annotations

from pause_manager.recurrence.cron_fields import DAY_OF_MONTH, HOUR, MINUTE, MONTH

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_SETS = {
    frozenset(range(7)): "every day",
    frozenset(range(1, 6)): "weekdays",
    frozenset({0, 6}): "weekends",
}


def interval(minutes: int) -> str:
    """``every 15 minutes``, ``every 2 hours``, ``every day``."""
    for unit, length in (("day", 1440), ("hour", 60), ("minute", 1)):
        count, rest = divmod(minutes, length)
        if not rest:
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    raise AssertionError(minutes)


def of_fields(fields: tuple[frozenset[int], ...]) -> str:
    """The times of minutes, hours, days, months and weekdays; empty if words would be longer than the expression."""
    minutes, hours, days, months, weekdays = fields
    if len(days) <= DAY_OF_MONTH.most - 1 or len(months) < MONTH.most:
        return ""
    on = _SETS.get(weekdays) or ", ".join(_DAYS[day] for day in sorted(weekdays, key=lambda day: (day - 1) % 7))
    if len(hours) == HOUR.most + 1 and (step := _step(minutes)):
        said = interval(step)
        return said if len(weekdays) == 7 else f"{on}, {said}"
    if len(hours) * len(minutes) > 4:
        return ""
    times = [f"{hour:02d}:{minute:02d}" for hour in sorted(hours) for minute in sorted(minutes)]
    return f"{on} {' and '.join(filter(None, [', '.join(times[:-1]), times[-1]]))}"


def _step(minutes: frozenset[int]) -> int:
    """The even distance of ``minutes`` over the hours, from minute 0; 0 if there is none."""
    step = (MINUTE.most + 1) // len(minutes)
    return step if minutes == frozenset(range(0, MINUTE.most + 1, step)) else 0
