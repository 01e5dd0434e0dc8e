"""``manage.py watch_run``: show a run's progress until it ends."""

from __future__ import annotations

import sys
from typing import Any

from automation.files.outputs import outputs_of
from automation.management import run_watch
from automation.management.run_command import OF_STATUS, Exit, RunCommand, find_run
from automation.models import AutomationRun
from automation.reports import status


class Command(RunCommand):
    """Shows progress; Ctrl-C stops watching, not the run."""

    help = "Show a run's progress until it ends. Ctrl-C does not stop the run."

    def run_command(self, **options: Any) -> Exit:
        return follow(self, find_run(options["run"]), as_json=options["json"])


def follow(command: RunCommand, run: AutomationRun, *, as_json: bool, is_within_up: bool = False) -> Exit:
    """Watch ``run`` until it ends; the exit code is that of its final status.

    With ``is_within_up`` Ctrl-C stops the whole system, which prints that itself.
    """
    try:
        if as_json:
            run_watch.watch_json(run.pk, command.line)
        elif sys.stdout.isatty():
            run_watch.watch_live(run.pk)
        else:
            run_watch.watch_plain(run.pk, command.line)
    except KeyboardInterrupt:
        if not as_json and not is_within_up:
            command.line(
                f"\nNo longer watching; run {run.pk} is not affected.\n"
                f"Watch it again: manage.py watch_run {run.pk}\n"
                f"Pause it:       manage.py pause_run {run.pk}"
            )
        return Exit.INTERRUPTED
    ended = find_run(str(run.pk))
    now = status.of(ended)
    names = outputs_of(ended)
    if as_json:
        command.tell(ended, "", as_json=True, outputs=names)
    else:
        given_up = f": {ended.failed_items:,} item{'s'[: ended.failed_items != 1]} failed" if ended.failed_items else ""
        command.line(f"Run {ended.pk} is {status.in_words(now)}{given_up}.")
        for name in names:
            command.line(f"Outputs: {name}")
    return OF_STATUS[now]
