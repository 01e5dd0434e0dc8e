"""``manage.py override set|end|list``: values that go back by themselves after a while."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from pause_manager import overrides
from pause_manager.actor import Actor
from pause_manager.management.shell import CommandRefused, Exit, ShellCommand, add_json, no_verb, period
from pause_manager.models import Override
from pause_manager.overrides import OverrideRefused, writer

_FIELDS = (
    *("id", "kind", "target", "value", "reason", "actor", "created_at", "expires_at"),
    *("ended_at", "ended_by", "outcome"),
)


class Command(ShellCommand):
    """Calls ``overrides.start`` and ``overrides.end``."""

    help = "Set a threshold, concurrency, priority or the like for a while, list what is set, or end it early."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage, or a value that is not allowed
  3    refused: the run has ended
  4    no such node, run, stage or override
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        kinds = "\n".join(
            f"  {kind.name}\n    TARGET  {kind.targets}\n    VALUE   {kind.values}" for kind in overrides.every_kind()
        )
        verbs = parser.add_subparsers(dest="verb")
        start = verbs.add_parser(
            "set",
            help="set a value for a while; it replaces an override of the same value",
            epilog=f"kinds:\n{kinds}\n",
            formatter_class=RawDescriptionHelpFormatter,
        )
        start.add_argument("kind", metavar="KIND", help="what is set, see below")
        start.add_argument("target", metavar="TARGET", help="node, run, stage, lane or resource: see below")
        start.add_argument("value", metavar="VALUE", help="value for that time")
        start.add_argument("--for", type=period, dest="expires_in", required=True, help="it ends after this time: 2h")
        end = verbs.add_parser("end", help="end an override now")
        end.add_argument("override", type=int, metavar="NUMBER", help="as the list shows it")
        for verb in (start, end):
            verb.add_argument("--reason", default="", help="why, for the audit trail")
        listed = verbs.add_parser("list", help="list the overrides in force")
        listed.add_argument("--ended", action="store_true", help="list ended ones instead, newest first")
        for verb in (start, end, listed):
            add_json(verb)

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, OverrideRefused):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        return super().refusal(error)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verb = options["verb"]
        if verb is None:
            raise no_verb("override", "set", "end", "list")
        if verb == "list":
            for override in _listed(options["ended"]):
                self._tell(override, options["json"])
            return Exit.OK
        who: dict[str, Any] = {"actor": Actor.shell(), "reason": options["reason"]}
        if verb == "end":
            override = overrides.end(options["override"], **who)
        else:
            override = overrides.start(
                options["kind"], options["target"], options["value"], expires_in=options["expires_in"], **who
            )
        self._tell(override, options["json"])
        return Exit.OK

    def _tell(self, override: Override, json: bool) -> None:
        self.line({name: getattr(override, name) for name in _FIELDS} if json else writer.sentence(override))


def _listed(has_ended: bool) -> Any:
    rows = Override.objects.filter(ended_at__isnull=not has_ended)
    return rows.order_by("-ended_at", "-id")[:100] if has_ended else rows.order_by("expires_at", "id")
