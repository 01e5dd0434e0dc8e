"""``manage.py fleet pause|resume|status``: the fleet switch for people and deploy scripts."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.db import connection

from pause_manager import fleet
from pause_manager.actor import Actor
from pause_manager.management import drain_watch
from pause_manager.management.shell import Exit, ShellCommand, add_json, no_verb, period
from pause_manager.models import Hold
from pause_manager.nodes import members

HEARD_SECONDS = 1.0
"""So long workers are waited for to hear of a change, before it is said that they have not."""


class Command(ShellCommand):
    """Calls ``fleet.pause``, ``fleet.resume`` and ``fleet.snapshot``."""

    help = "Pause the whole fleet before an upgrade, see what is still running, and resume."
    epilog = """\
exit codes:
  0    done; with --wait: drained, and every live worker has obeyed: it is safe to upgrade
  1    an unexpected error, such as no database
  2    wrong usage
  3    refused (nothing was changed); with --wait also: somebody has resumed the fleet meanwhile
  6    --wait: nothing runs, but leases of lost workers are left, which end only after the resume (see the runbook)
  7    --wait: not drained within --timeout; the fleet stays paused
  130  interrupted with Ctrl-C; the fleet stays as it is
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        told: dict[str, Any] = {"epilog": self.epilog, "formatter_class": RawDescriptionHelpFormatter}
        pause = verbs.add_parser("pause", help="take no new work", **told)
        pause.add_argument(
            "--mode",
            choices=Hold.Mode.values,
            required=True,
            help="drain: slices and tasks in progress finish; quiesce: they stop at the next item",
        )
        pause.add_argument("--reason", required=True, help="why, for the audit trail")
        pause.add_argument("--deadline", type=period, help="a drain becomes a quiesce after this time: 10m")
        resume = verbs.add_parser("resume", help="take work again")
        resume.add_argument("--reason", required=True, help="why, for the audit trail")
        resume.add_argument("--force", action="store_true", help="resume even if work is still running")
        status = verbs.add_parser("status", help="show state, running work and workers", **told)
        for verb in (pause, status):
            verb.add_argument("--wait", action="store_true", help="return only when drained")
            verb.add_argument("--timeout", type=period, help="with --wait: wait no longer than this")
        for verb in (pause, resume, status):
            add_json(verb)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        if options["verb"] is None:
            raise no_verb("fleet", "pause", "resume", "status")
        if options["verb"] == "pause":
            return self._pause(options)
        if options["verb"] == "resume":
            confirmation = "--force" if options["force"] else ""
            fleet.resume(
                reason=options["reason"], actor=Actor.shell(), force=options["force"], confirmation=confirmation
            )
            _let_workers_hear()
        if options["verb"] == "status" and options["wait"]:
            return self._wait(options)
        self._show(options["json"])
        return Exit.OK

    def _pause(self, options: dict[str, Any]) -> Exit:
        state = fleet.pause(
            mode=options["mode"],
            reason=options["reason"],
            actor=Actor.shell(),
            deadline=options["deadline"],
            confirmation="fleet pause",
        )
        if options["wait"]:
            return self._wait(options, version=state.version)
        _let_workers_hear()
        self._show(options["json"])
        return Exit.OK

    def _wait(self, options: dict[str, Any], version: int = 0) -> Exit:
        json, timeout = options["json"], options["timeout"]
        at_most = timeout.total_seconds() if timeout else None
        code = drain_watch.wait(self._teller(json), version=version, at_most=at_most)
        if self._is_live(json):
            self.stdout.write("")
        if json:
            self._show(json)
        elif code in drain_watch.ENDINGS:
            self.stderr.write(drain_watch.ENDINGS[code], style_func=None if sys.stderr.isatty() else str)
        return code

    def _show(self, json: bool) -> None:
        connection.ensure_connection()  # the snapshot tells what cannot be read; without a database that is all
        shot = fleet.snapshot()
        for line in [shot] if json else drain_watch.table(shot):
            self.line(line)

    def _is_live(self, json: bool) -> bool:
        return not json and sys.stdout.isatty()

    def _teller(self, json: bool) -> drain_watch.Say:
        """On a terminal one line in place, for machines nothing, else a line for each change."""
        last = ""

        def say(sentence: str) -> None:
            nonlocal last
            if self._is_live(json):
                self.stdout.write(f"\r\x1b[2K{sentence}", ending="")
                self.stdout.flush()
            elif not json and sentence.partition(";")[0] != last:  # an estimate that moves is no change
                self.line(sentence)
            last = sentence.partition(";")[0]

        return say


def _let_workers_hear() -> None:
    """Wait until all have acknowledged the change, for a second at most."""
    until = time.monotonic() + HEARD_SECONDS
    while time.monotonic() < until and members.of_version(fleet.state().version).lagging:
        time.sleep(0.05)
