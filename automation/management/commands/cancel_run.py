"""``manage.py cancel_run``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation.gate import idle_reasons
from automation.management.run_command import Exit, RunCommand, find_run
from automation.reports import status
from automation.runs import lifecycle
from pause_manager.actor import Actor


class Command(RunCommand):
    """Calls ``lifecycle.cancel``; returns at once."""

    help = "Cancel a run for good: items in progress finish, no other starts."

    def arguments(self, parser: ArgumentParser) -> None:
        super().arguments(parser)
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def run_command(self, **options: Any) -> Exit:
        run = lifecycle.cancel(find_run(options["run"]).pk, actor=Actor.shell(), reason=options["reason"])
        deferring = idle_reasons.irreversible_at_work(run.pk)
        told = f"Run {run.pk} is {status.of(run)}. {idle_reasons.told_of_irreversible(deferring)}"
        self.tell(run, told.strip(), as_json=options["json"], deferred_by=deferring)
        return Exit.OK
