"""How many items of a stage may fail before its run does: a number, or a share of those that are done."""

from __future__ import annotations

FailureLimit = int | float | None
"""A whole number of items; a share, above 0 and below 1; or no limit."""

FAIL, HOLD = ON_EXHAUSTED = ("fail", "hold")
"""What follows when the tries of an item are used up, or too much of a run fails: it fails, or a person is asked."""
HALF = 0.5
ENOUGH = 20
"""A share is judged from this many units on: of fewer, chance may fail the half."""
FIRST = 10
"""If this many units have failed and none has succeeded, the rest would not either."""


def is_limit(value: object) -> bool:
    """Whether ``value`` is a :data:`FailureLimit`."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 if isinstance(value, int) else 0 < value < 1


def exceeded(limit: FailureLimit, *, processed: int, failed: int, group_size: int = 1) -> str | None:
    """Why a stage with this many items done has failed too often; ``None`` while it has not.

    ``group_size`` is the stage's: a group fails as a whole, and is one unit.
    """
    if limit is None:
        return None
    if isinstance(limit, int):
        return f"{failed:,} items failed, at most {limit:,} are allowed" if failed > limit else None
    if not processed and failed >= FIRST * group_size:
        return f"the first {failed:,} items failed, and none succeeded"
    done = processed + failed
    if done >= ENOUGH * group_size and failed > limit * done:
        return f"{failed:,} of {done:,} items failed, more than {limit:.0%}"
    return None
