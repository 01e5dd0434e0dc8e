"""``manage.py window``: scopes that are held again and again."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pause_manager import times
from pause_manager.actor import Actor
from pause_manager.errors import WindowRefused
from pause_manager.holds import windows
from pause_manager.management.rule_arguments import add_rule, clock, rule_of
from pause_manager.management.shell import CommandRefused, Exit, ShellCommand, add_json, no_verb, period
from pause_manager.models import Hold, PauseWindow
from pause_manager.models.clock import database_now


class Command(ShellCommand):
    """Calls ``holds.windows``."""

    help = "Hold a scope again and again: at night, in business hours, on weekends."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage or input; the sentence names what is allowed
  3    refused: not possible now; nothing was changed
  4    no such pause window
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        listed = verbs.add_parser("list", help="list pause windows")
        add = verbs.add_parser("add", help="add a pause window")
        add.add_argument("name", help="name of the new pause window")
        add.add_argument("scope", help="fleet, queue:x, pipeline:x, lane:x, node:x or resource:x")
        change = verbs.add_parser("change", help="change a pause window: what is not given stays")
        change.add_argument("name", help="name of the pause window")
        change.add_argument("--scope", default="", help="another scope")
        for verb in (add, change):
            add_rule(verb)
            length = verb.add_mutually_exclusive_group(required=verb is add)
            length.add_argument("--until", type=clock, metavar="HH:MM", help="with --at: it ends at this time")
            length.add_argument("--for", type=period, dest="length", metavar="T", help="it lasts for this time: 8h")
            verb.add_argument("--mode", choices=Hold.Mode.values, help="drain (default) or quiesce")
            state = verb.add_mutually_exclusive_group()
            state.add_argument("--enable", dest="is_enabled", action="store_true", default=None, help="switch it on")
            state.add_argument("--disable", dest="is_enabled", action="store_false", default=None, help="switch it off")
        add.add_argument("--reason", required=True, help="why, shown with every hold")
        change.add_argument("--reason", default="", help="another reason for its holds")
        skip = verbs.add_parser("skip", help="end the current period of a pause window, or skip the next one")
        delete = verbs.add_parser("delete", help="delete a pause window and release its hold")
        for verb in (skip, delete):
            verb.add_argument("name", help="name of the pause window")
            verb.add_argument("--reason", default="", help="why, for the audit trail")
        for verb in (listed, add, change, skip, delete):
            add_json(verb)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verbs: dict[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list,
            "add": self._add,
            "change": self._change,
            "skip": self._skip,
            "delete": self._delete,
        }
        if options["verb"] is None:
            raise no_verb("window", *verbs)
        verbs[options["verb"]](options)
        return Exit.OK

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, WindowRefused):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        return super().refusal(error)

    def _list(self, options: dict[str, Any]) -> None:
        for window in PauseWindow.objects.order_by("name"):
            self._tell(window, options)

    def _add(self, options: dict[str, Any]) -> None:
        fields = {"name": options["name"], "scope": options["scope"], "reason": options["reason"], **_fields(options)}
        self._tell(windows.create(fields, actor=Actor.shell()), options)

    def _change(self, options: dict[str, Any]) -> None:
        window = _find(options["name"])
        fields = _fields(options, window)
        fields.update({name: options[name] for name in ("scope", "reason") if options[name]})
        if not fields:
            raise CommandRefused("Cannot change the window: expected something to change.", Exit.USAGE, "usage")
        self._tell(windows.change(window.name, fields, actor=Actor.shell()), options)

    def _skip(self, options: dict[str, Any]) -> None:
        window = _find(options["name"])
        begins, ends = windows.skip(window.name, actor=Actor.shell(), reason=options["reason"])
        facts = {"window": window.name, "skipped_from": begins.isoformat(), "skipped_until": ends.isoformat()}
        sentence = f"Skipped {window.name} from {times.written(begins)} to {times.written(ends)}."
        self.line(facts if options["json"] else sentence)

    def _delete(self, options: dict[str, Any]) -> None:
        window = _find(options["name"])
        windows.delete(window.name, actor=Actor.shell(), reason=options["reason"])
        self.line({"window": window.name, "deleted": True} if options["json"] else f"Deleted {window.name}.")

    def _tell(self, window: PauseWindow, options: dict[str, Any]) -> None:
        now = database_now()
        found = windows.current_or_next(window, now) if window.is_enabled else None
        if options["json"]:
            more = {"begins_at": found[0], "ends_at": found[1], "is_open": found[0] <= now} if found else None
            self.line({**windows.facts(window, windows.FIELDS), "in_words": windows.words(window), "next": more})
            return
        if found is None:
            state = "disabled"
        elif found[0] <= now:
            state = f"open until {times.written(found[1])}"
        else:
            state = f"next from {times.written(found[0])} to {times.written(found[1])}"
        what = f"{window.name}: {window.scope} ({window.mode}), {windows.words(window)}"
        self.line(f"{what}; {state}: {window.reason}")


def _fields(options: dict[str, Any], window: PauseWindow | None = None) -> dict[str, Any]:
    fields = rule_of(options)
    for name in ("mode", "is_enabled"):
        if options[name] is not None:
            fields[name] = options[name]
    if options["length"]:
        fields["duration_minutes"] = int(options["length"].total_seconds() // 60)
    if options["until"]:
        begins = fields.get("at") or (window.at if window else None)
        if begins is None:
            raise CommandRefused("Cannot tell how long: expected --at with --until, or --for.", Exit.USAGE, "usage")
        day = datetime(2000, 1, 1)
        length = datetime.combine(day, options["until"]) - datetime.combine(day, begins)
        fields["duration_minutes"] = int((length % timedelta(days=1)).total_seconds() // 60) or 24 * 60
    return fields


def _find(name: str) -> PauseWindow:
    found = PauseWindow.objects.filter(name=name).first()
    if found is None:
        raise CommandRefused(f"Cannot find pause window {name!r}: it does not exist.", Exit.NOT_FOUND, "not_found")
    return found
