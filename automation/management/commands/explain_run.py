"""``manage.py explain_run``: every reason why a run does not proceed."""

from __future__ import annotations

from typing import Any

from automation.management.run_command import Exit, RunCommand, find_run
from automation.reports import explanation, status
from pause_manager.management.reasons import lines_of


class Command(RunCommand):
    """Prints the gate's reasons in its order; none means that nothing keeps the run."""

    help = "List the reasons why a run does not proceed."

    def run_command(self, **options: Any) -> Exit:
        run = find_run(options["run"])
        explained = explanation.of_run(run)
        if options["json"]:
            self.tell(run, "", as_json=True, **explained.as_dict())
            return Exit.OK
        self.line(f"Run {run.pk} is {status.in_words(status.of(run, has_reasons=not explained.may_start))}.")
        for line in lines_of(explained):
            self.line(line)
        return Exit.OK
