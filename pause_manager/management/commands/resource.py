"""``manage.py resource list|show|limit|probe``: resources outside that work uses."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from pause_manager import resources
from pause_manager.actor import Actor
from pause_manager.management.shell import Exit, ShellCommand, add_json, no_verb
from pause_manager.resources import report
from pause_manager.resources.report import ResourceReport


class Command(ShellCommand):
    """Calls ``resources``. To hold and release one: ``manage.py hold place resource:NAME``."""

    help = "Show and limit the resources outside that work uses; hold one with: manage.py hold place resource:NAME."
    epilog = """\
exit codes:
  0    done, also if it was so already
  1    an unexpected error, such as no database
  2    wrong usage, or a name or limit that cannot be
  4    no such resource
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        listed = verbs.add_parser("list", help="list every resource that is used, held or limited")
        show = verbs.add_parser("show", help="show a resource, and who is first in line for it")
        limit = verbs.add_parser("limit", help="set or remove the limits of a resource")
        limit.add_argument(
            "--at-once", type=_limit, metavar="N", help="most items and tasks that use it at once, or none"
        )
        limit.add_argument(
            "--per-minute", type=_limit, metavar="N", help="most items and tasks that start in a minute, or none"
        )
        probe = verbs.add_parser("probe", help="ask a resource that said “too much” again now, by one loop or task")
        for verb in (show, limit, probe):
            verb.add_argument("name", help="name of the resource, such as openai")
        for verb in (limit, probe):
            verb.add_argument("--reason", default="", help="why, for the audit trail")
        for verb in (listed, show, limit, probe):
            add_json(verb)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verb = options["verb"]
        if verb is None:
            raise no_verb("resource", "list", "show", "limit", "probe")
        if verb == "list":
            for one in report.of_all():
                self._show(one, options)
            return Exit.OK
        name, actor = options["name"], Actor.shell()
        if verb == "limit":
            given = {"max_at_once": options["at_once"], "max_per_minute": options["per_minute"]}
            limits = {limit: value or None for limit, value in given.items() if value is not None}
            if not limits:
                raise CommandError("Cannot limit it: expected --at-once, --per-minute or both.", returncode=2)
            resources.set_limits(name, limits, actor=actor, reason=options["reason"])
        elif verb == "show":
            self._show(report.of(name), options)
            self._tell_line(name, options)
            return Exit.OK
        elif verb == "probe":
            report.of(name)
            resources.ask_again(name, actor=actor, reason=options["reason"])
        self._show(report.of(name), options)
        return Exit.OK

    def _show(self, one: ResourceReport, options: dict[str, Any]) -> None:
        if options["json"]:
            self.line(asdict(one))
            return
        waits = f" {one.waiting:,} wait for it." if one.waiting else ""
        self.line(f"{one.name}  {one.state}  {one.sentence}{waits}")

    def _tell_line(self, name: str, options: dict[str, Any]) -> None:
        if options["json"]:
            return
        for one in report.line(name, user=None):
            self.line(f"{one.position:>6}.  {one.kind:<5}  {one.ref}  {one.title}, priority {one.priority}")


NONE = 0
"""What ``none`` is taken for: no limit."""


def _limit(text: str) -> int:
    if text == "none":
        return NONE
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0 or none, got: {text!r}")
    return int(text)
