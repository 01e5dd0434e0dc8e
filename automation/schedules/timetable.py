"""Which occurrences of a schedule are started now, and which were missed. Pure: times in, times out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from pause_manager.recurrence import Rule

RECORDED = 50
"""Most missed occurrences of one outage that are recorded one by one, the newest."""
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Plan:
    """Occurrences that are due, oldest first."""

    started: tuple[datetime, ...]
    missed: tuple[datetime, ...]
    more_missed: int
    """Missed occurrences before ``missed``."""
    next: datetime | None


def plan(
    rule: Rule,
    first: datetime,
    now: datetime,
    *,
    catch_up: str,
    grace: timedelta,
    most: int,
    expires_at: datetime | None = None,
) -> Plan:
    """Judge the occurrences from ``first`` to ``now``; none comes after ``expires_at``.

    As long as that is to come, the next one may be later: held time moves the expiry on.

    The newest is started if it is at most ``grace`` late. For what is older ``catch_up`` decides: ``all`` starts the
    newest ``most``, ``last`` the newest one, ``none`` nothing.
    """
    newest: deque[datetime] = deque(maxlen=RECORDED + most)
    count, following = 0, None
    for at in rule.times(first - _MOMENT):
        if at > now:
            is_over = expires_at is not None and expires_at <= now
            following = None if is_over else at
            break
        if expires_at is not None and at > expires_at:
            break
        newest.append(at)
        count += 1
    due = list(newest)
    wanted = {"all": most, "last": 1, "none": 1}[catch_up]
    if catch_up == "none" and due and now - due[-1] > grace:
        wanted = 0
    cut = max(0, len(due) - wanted)
    missed = due[:cut][-RECORDED:]
    return Plan(tuple(due[cut:]), tuple(missed), count - len(due[cut:]) - len(missed), following)
