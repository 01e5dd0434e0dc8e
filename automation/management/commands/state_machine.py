"""``manage.py state_machine``: write the page that shows the state machine of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from automation.runs import diagram

PAGE = Path(__file__).resolve().parents[3] / "docs" / "state_machine.md"


class Command(BaseCommand):
    """Writes ``docs/state_machine.md``, or the file that is named."""

    help = "Write docs/state_machine.md from the table of transitions."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, default=PAGE, help="file to write")

    def handle(self, *args: Any, **options: Any) -> None:
        options["to"].write_text(diagram.page())
        self.stdout.write(f"{options['to']} is written.")
