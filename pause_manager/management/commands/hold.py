"""``manage.py hold place|release|list``: operators' holds on queues, pipelines, lanes, nodes and resources."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from pause_manager import times
from pause_manager.actor import Actor
from pause_manager.fleet import bulk_holds
from pause_manager.management.shell import Exit, ShellCommand, add_json, no_verb, period
from pause_manager.models import Hold


class Command(ShellCommand):
    """Calls ``bulk.place`` and ``bulk.release``."""

    help = "Hold queues, pipelines, lanes, nodes or resources (queue:x, pipeline:x, lane:x, node:x, resource:x)."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage, or a scope that cannot be held so
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        place = verbs.add_parser("place", help="hold, or give a hold another mode, reason or end")
        place.add_argument("--mode", choices=Hold.Mode.values, default=Hold.Mode.DRAIN, help="default: drain")
        place.add_argument("--for", type=period, dest="expires_in", help="the hold ends after this time: 10m")
        ends = [str(end) for end in Hold.OnExpiry if end != Hold.OnExpiry.CANCEL]
        place.add_argument("--then", choices=ends, default="resume", help="what happens at its end")
        release = verbs.add_parser("release", help="release operators' holds")
        for verb in (place, release):
            verb.add_argument(
                "scopes", nargs="+", metavar="SCOPE", help="what to hold or release, such as queue:mail or node:*"
            )
            verb.add_argument("--reason", default="", help="why, for the audit trail")
        listed = verbs.add_parser("list", help="list the holds in force")
        for verb in (place, release, listed):
            add_json(verb)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        if options["verb"] is None:
            raise no_verb("hold", "place", "release", "list")
        verb, json = options["verb"], options["json"]
        if verb == "list":
            self._list(json)
            return Exit.OK
        actor, reason = Actor.shell(), options["reason"]
        if verb == "release":
            released, not_held = bulk_holds.release(options["scopes"], actor=actor, reason=reason)
            self._tell(json, {"released": released, "not_held": not_held})
            return Exit.OK
        outcome = bulk_holds.place(
            options["scopes"],
            mode=options["mode"],
            actor=actor,
            reason=reason,
            expires_in=options["expires_in"],
            on_expiry=options["then"],
        )
        self._tell(json, vars(outcome))
        for warning in bulk_holds.unknown(options["scopes"]):
            self.stderr.write(f"Warning: {warning}", style_func=None if sys.stderr.isatty() else str)
        return Exit.OK

    def _tell(self, json: bool, outcome: dict[str, list[str]]) -> None:
        if json:
            self.line(outcome)
            return
        for what, scopes in outcome.items():
            if scopes:
                self.line(f"{what.replace('_', ' ')}: {', '.join(scopes)}")

    def _list(self, json: bool) -> None:
        for hold in Hold.objects.active().order_by("scope", "kind"):
            ends = f", until {times.written(hold.expires_at)} ({hold.on_expiry})" if hold.expires_at else ""
            names = ("scope", "kind", "mode", "reason", "actor", "created_at", "expires_at", "on_expiry")
            self.line(
                {name: getattr(hold, name) for name in names}
                if json
                else f"{hold.scope}  {hold.kind} ({hold.mode})  since {times.written(hold.created_at)} by "
                f"{hold.actor}: {hold.reason or 'no reason given'}{ends}"
            )
