"""A rule of recurrence from the texts of a form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from typing import Any

from pause_manager.recurrence import KINDS, InvalidRule
from pause_manager.recurrence.rule import NEEDED, with_kind

KIND_WORDS = {
    "daily": "every day",
    "weekly": "on some weekdays",
    "monthly": "on one day of each month",
    "interval": "at an interval of minutes",
    "cron": "as a cron expression says",
}
DEFAULTS = {
    "kind": "daily",
    "at": "02:00",
    "weekdays": "mon-fri",
    "day_of_month": "1",
    "cron": "0 2 * * *",
    "every_minutes": "60",
    "time_zone": "UTC",
}
"""What a form begins with."""


def rule_of(given: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the rule: those that its kind takes, the others empty. Raises :class:`InvalidRule`."""
    kind = given.get("kind", "")
    if kind not in KINDS:
        raise InvalidRule("kind", f"expected one of {', '.join(KINDS)}, got: {kind[:40]!r}")
    found: dict[str, Any] = {"kind": kind, "time_zone": given.get("time_zone", "").strip() or "UTC"}
    for name in NEEDED[kind]:
        text = given.get(name, "").strip()
        if name == "at":
            found[name] = _clock(text)
        else:
            found[name] = whole(name, text) if name in ("day_of_month", "every_minutes") else text
    return with_kind(found)


def whole(name: str, text: str) -> int | None:
    """The number that was typed, ``None`` if nothing was. Raises :class:`InvalidRule`."""
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise InvalidRule(name, f"expected a whole number, got: {text[:40]!r}")


def _clock(text: str) -> time | None:
    try:
        return time.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidRule("at", f"expected hours and minutes such as 08:00, got: {text[:40]!r}") from None
