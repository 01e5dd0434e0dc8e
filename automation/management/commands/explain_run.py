"""``manage.py explain_run``: every reason why a run does not go on."""

from __future__ import annotations

from typing import Any

from automation import gate, status
from automation.management.run_command import Exit, RunCommand, find_run


class Command(RunCommand):
    """Prints the gate's reasons in its order; none means that nothing keeps the run."""

    help = "Say why a run does not go on."

    def run_command(self, **options: Any) -> Exit:
        run = find_run(options["run"])
        reasons = gate.explain(run)
        if options["json"]:
            self.tell(run, "", as_json=True, reasons=[reason.as_dict() for reason in reasons])
            return Exit.OK
        self.line(f"Run {run.pk} is {status.of(run, has_reasons=bool(reasons))}.")
        if not reasons:
            self.line("Nothing keeps it.")
        for reason in reasons:
            since = f" since {reason.since:%Y-%m-%d %H:%M:%S} UTC" if reason.since else ""
            self.line(f"- {reason.sentence} ({reason.code}, by {reason.actor}{since}) Lifted by: {reason.lifted_by}.")
        return Exit.OK
