"""``manage.py health``: is work flowing, is it succeeding, are the figures fresh."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from pause_manager import health, times
from pause_manager.health import Answer
from pause_manager.management.shell import Exit, ShellCommand, add_json
from pause_manager.workloads import Finding

_MARKS = {"problem": "✗", "held": "‖", "note": "!", "good": "✓"}


class Command(ShellCommand):
    """Prints the verdict; a problem is exit code 1, for scripts and monitoring."""

    help = "Say whether work is flowing and succeeding, and the figures are fresh; with likely causes and next steps."
    epilog = """\
exit codes:
  0    nobody has to act: all is well, or work is held on purpose
  1    there is a problem, and it is named; or an unexpected error, such as no database
  2    wrong usage

✗ a problem   ‖ held on purpose, or waiting for room   ! worth a look   ✓ evidence that all is well
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_json(parser)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verdict = health.judge()
        if options["json"]:
            self.line(verdict.as_dict())
        else:
            self.line(verdict.sentence)
            for answer in verdict.answers:
                self._show(answer)
        return Exit.OK if verdict.is_ok else Exit.FAILED

    def _show(self, answer: Answer) -> None:
        self.line("")
        self.line(f"{answer.sentence[0].upper()}{answer.sentence[1:]}.")
        for finding in answer.findings:
            self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        since = f" (since {times.written(finding.since)})" if finding.since else ""
        self.line(f"  {_MARKS[finding.level]} {finding.sentence}{since}")
        for name, text in (("", finding.detail), ("cause: ", finding.cause), ("next: ", finding.next_step)):
            if text:
                self.line(f"      {name}{text}")
