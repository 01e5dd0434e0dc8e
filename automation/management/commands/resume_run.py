"""``manage.py resume_run``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation import lifecycle, status
from automation.management.run_command import Exit, RunCommand, find_run
from pause_manager.actor import Actor


class Command(RunCommand):
    """Calls ``lifecycle.resume``; returns at once."""

    help = "Resume a paused run at the item after the last finished one."

    def arguments(self, parser: ArgumentParser) -> None:
        super().arguments(parser)
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def run_command(self, **options: Any) -> Exit:
        run = lifecycle.resume(find_run(options["run"]).pk, actor=Actor.shell(), reason=options["reason"])
        self.tell(run, f"Run {run.pk} is {status.of(run)}.", as_json=options["json"])
        return Exit.OK
