"""``manage.py check_runs``: check that the installed code can finish all unfinished runs."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from automation.management.run_command import Exit, RunCommand
from automation.runs import stage_rows, upgrade_check

SHOWN = 50


class Command(RunCommand):
    """Lists the unfinished runs with stages or parameters that the code does not support.

    Changes none of them, but defines stages that an earlier release created, as the reconciler does.
    """

    help = (
        "Check that the installed code has every stage of every unfinished run, and accepts its parameters. "
        "Run it with the new code, after an upgrade and before `fleet resume`."
    )
    epilog = """\
exit codes:
  0    every unfinished run can continue with this code
  1    some cannot and are listed; or an unexpected error, such as no database
  2    wrong usage

A listed run is not lost. It waits, and continues as soon as code with the stage is installed: bring the stage back, or
name its old slug in the new one: formerly = ("old-slug",). Or cancel the run.
"""

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help=f"list all, not the first {SHOWN}; --json always does")

    def run_command(self, **options: Any) -> Exit:
        stage_rows.define()
        total = found = 0
        stages: Counter[str] = Counter()
        for run, findings in upgrade_check.unfinished():
            total += 1
            found += bool(findings)
            for finding in findings:
                stages.update(f"{run.pipeline}/{slug}" for slug in finding.stages)
                if options["json"]:
                    self.line(finding.as_dict())
                elif found <= SHOWN or options["all"]:
                    self.line(f"{run.pk}  {finding.sentence}")
        if not options["json"]:
            for sentence in upgrade_check.places().sentences:
                self.line(sentence)
            self._sum_up(total, found, stages, is_cut=found > SHOWN and not options["all"])
        return Exit.FAILED if found else Exit.OK

    def _sum_up(self, total: int, found: int, stages: Counter[str], *, is_cut: bool) -> None:
        if is_cut:
            self.line(f"… and {found - SHOWN} more (--all).")
        if not found:
            self.line(f"This code has all that {_runs(total)} need." if total != 1 else _ONE)
            return
        verb = "uses stages" if found == 1 else "use stages"
        told = f"{_runs(found)} of {total:,} {verb} or parameters that this code does not have"
        listed = ", ".join(f"{name} ({count:,})" for name, count in stages.most_common())
        self.line(f"{told}: {listed}." if listed else f"{told}.")


_ONE = "This code has all that the one unfinished run needs."


def _runs(count: int) -> str:
    return f"{count:,} unfinished run{'' if count == 1 else 's'}"
