"""``manage.py explain_run``: every reason why a run does not proceed."""

from __future__ import annotations

from typing import Any

from automation import gate
from automation.management.run_command import Exit, RunCommand, find_run
from automation.reports import status
from pause_manager import times


class Command(RunCommand):
    """Prints the gate's reasons in its order; none means that nothing keeps the run."""

    help = "List the reasons why a run does not proceed."

    def run_command(self, **options: Any) -> Exit:
        run = find_run(options["run"])
        reasons = gate.explain(run)
        if options["json"]:
            self.tell(run, "", as_json=True, reasons=[reason.as_dict() for reason in reasons])
            return Exit.OK
        self.line(f"Run {run.pk} is {status.in_words(status.of(run, has_reasons=bool(reasons)))}.")
        if not reasons:
            self.line("Nothing keeps it.")
        for reason in reasons:
            since = f" Since {times.written(reason.since)}." if reason.since else ""
            self.line(f"- {reason.sentence}{since} {_end_of(reason)}")
        return Exit.OK


def _end_of(reason: gate.Reason) -> str:
    nothing, colon, hint = reason.lifted_by.partition("nothing: ")
    return f"Nothing ends that: {hint}." if colon and not nothing else f"It resumes when {reason.lifted_by}."
