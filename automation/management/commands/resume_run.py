"""``manage.py resume_run``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation import gate
from automation.errors import TransitionRefused
from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run
from automation.reports import status
from automation.runs import capacity_override, lifecycle, run_names
from pause_manager.actor import Actor


class Command(RunCommand):
    """Calls ``lifecycle.resume``, or ``capacity_override.start_anyway`` with ``--force``; returns at once."""

    help = "Resume a paused run at the item after the last finished one."

    def arguments(self, parser: ArgumentParser) -> None:
        super().arguments(parser)
        parser.add_argument("--reason", default="", help="why, for the audit trail")
        parser.add_argument("--force", action="store_true", help="start it and ignore capacity from now on")

    def run_command(self, **options: Any) -> Exit:
        verb = capacity_override.start_anyway if options["force"] else lifecycle.resume
        wanted = find_run(options["run"])
        try:
            run = verb(wanted.pk, actor=Actor.shell(), reason=options["reason"])
        except TransitionRefused as error:
            if not any(reason.code == "capacity" for reason in gate.explain(wanted)):
                raise
            sentence = f"{error} Start it anyway: manage.py resume_run {run_names.short(wanted.pk)} --force"
            raise CommandRefused(sentence, Exit.REFUSED, error.code) from error
        now = status.of(run)
        reasons = [reason for reason in gate.explain(run) if reason.keeps]
        if not reasons:
            self.tell(run, f"Run {run.pk} is {status.in_words(now)}.", as_json=options["json"])
            return Exit.OK
        released = "It ignores capacity from now on" if options["force"] else "Your hold is released"
        sentence = f"{released}. The run still waits: {reasons[0].sentence}"
        if len(reasons) > 1:
            sentence += f" There are {len(reasons) - 1} more reasons: manage.py explain_run {run.pk}"
        self.tell(run, sentence, as_json=options["json"], reasons=[reason.as_dict() for reason in reasons])
        return Exit.WAITS
