"""Options of commands that say when something recurs."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from datetime import datetime, time
from typing import Any

from pause_manager.management.shell import CommandRefused, Exit, period


def add_rule(parser: ArgumentParser, time_zone: str | None = None) -> None:
    """Add ``--at``, ``--weekdays``, ``--day``, ``--cron``, ``--every`` and ``--time-zone``."""
    parser.add_argument("--at", type=clock, metavar="HH:MM", help="every day at this time")
    parser.add_argument("--weekdays", default="", metavar="DAYS", help="with --at: only on these, such as mon-fri")
    parser.add_argument("--day", type=int, metavar="N", help="with --at: only on this day of the month; 31 is the last")
    parser.add_argument("--cron", default="", metavar="EXPR", help='"minute hour day-of-month month weekday"')
    parser.add_argument("--every", type=period, metavar="T", help="at even intervals: 90m, 2h")
    parser.add_argument("--time-zone", default=time_zone, metavar="ZONE", help="such as Europe/Berlin (UTC)")


def rule_of(options: dict[str, Any]) -> dict[str, Any]:
    """The columns of a ``Recurring`` row that the options mean; empty if none was given.

    Raises :class:`CommandRefused` for options that do not go together.
    """
    given = [name for name in ("at", "cron", "every") if options[name]]
    zone = {"time_zone": options["time_zone"]} if options["time_zone"] else {}
    if not given and not options["weekdays"] and options["day"] is None:
        return zone
    if len(given) != 1 or (given != ["at"] and (options["weekdays"] or options["day"] is not None)):
        raise _unclear("expected one of --at, --cron and --every; --weekdays and --day go with --at")
    if options["weekdays"] and options["day"] is not None:
        raise _unclear("expected --weekdays or --day, got both; --cron can say both")
    rule: dict[str, Any] = {"at": None, "weekdays": "", "day_of_month": None, "cron": "", "every_minutes": None, **zone}
    if options["cron"]:
        return {**rule, "kind": "cron", "cron": options["cron"]}
    if options["every"]:
        seconds = options["every"].total_seconds()
        if seconds % 60:
            raise _unclear("expected whole minutes for --every, such as 90m or 2h")
        return {**rule, "kind": "interval", "every_minutes": int(seconds // 60)}
    rule["at"] = options["at"]
    if options["weekdays"]:
        return {**rule, "kind": "weekly", "weekdays": options["weekdays"]}
    if options["day"] is not None:
        return {**rule, "kind": "monthly", "day_of_month": options["day"]}
    return {**rule, "kind": "daily"}


def clock(text: str) -> time:
    """Parse ``08:00`` for ``argparse``."""
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 08:00, got: {text!r}") from None


def _unclear(rule: str) -> CommandRefused:
    return CommandRefused(f"Cannot tell when: {rule}.", Exit.USAGE, "usage")
