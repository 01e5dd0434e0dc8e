"""``manage.py fleet pause|resume|status``: the fleet switch for people and deploy scripts."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from pause_manager import fleet
from pause_manager.management import drain_watch
from pause_manager.management.shell import ControlCommand, Exit, add_json, period, shell_actor
from pause_manager.models import Hold


class Command(ControlCommand):
    """Calls ``fleet.pause``, ``fleet.resume`` and ``fleet.snapshot``."""

    help = "Pause the whole fleet before an upgrade, see what is still at work, and resume."
    epilog = """\
exit codes:
  0    done; with --wait: drained, and every live worker has obeyed: it is safe to upgrade
  1    an unexpected error, such as no database
  2    wrong usage
  3    refused (nothing was changed); with --wait also: somebody has resumed the fleet meanwhile
  4    --wait: nothing runs, but leases of lost workers are left, which end only after the resume (see the runbook)
  5    --wait: not drained within --timeout; the fleet stays paused
  130  interrupted with Ctrl-C; the fleet stays as it is
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        told: dict[str, Any] = {"epilog": self.epilog, "formatter_class": RawDescriptionHelpFormatter}
        pause = verbs.add_parser("pause", help="take no new work", **told)
        pause.add_argument(
            "--mode", choices=Hold.Mode.values, required=True, help="drain: what runs goes on to its end"
        )
        pause.add_argument("--reason", required=True, help="why, for the audit trail")
        pause.add_argument("--deadline", type=period, help="a drain becomes a quiesce after this time: 10m")
        resume = verbs.add_parser("resume", help="take work again")
        resume.add_argument("--reason", required=True, help="why, for the audit trail")
        resume.add_argument("--force", action="store_true", help="although something is still at work")
        status = verbs.add_parser("status", help="show state, work at hand and workers", **told)
        for verb in (pause, status):
            verb.add_argument("--wait", action="store_true", help="return when drained")
            verb.add_argument("--timeout", type=period, help="with --wait: wait no longer than this")
        for verb in (pause, resume, status):
            add_json(verb)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        if options["verb"] == "pause":
            return self._pause(options)
        if options["verb"] == "resume":
            confirmation = "--force" if options["force"] else ""
            fleet.resume(
                reason=options["reason"], actor=shell_actor(), force=options["force"], confirmation=confirmation
            )
        if options["verb"] == "status" and options["wait"]:
            return self._wait(options)
        self._show(options["json"])
        return Exit.OK

    def _pause(self, options: dict[str, Any]) -> Exit:
        state = fleet.pause(
            mode=options["mode"],
            reason=options["reason"],
            actor=shell_actor(),
            deadline=options["deadline"],
            confirmation="fleet pause",
        )
        if options["wait"]:
            return self._wait(options, version=state.version)
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
