"""``manage.py state_machine``: write the pages that show the states of a run and of an entry of the pause queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from automation.runs import diagram
from pause_manager.pause_queue import diagram as entry_diagram

DOCS = Path(__file__).resolve().parents[3] / "docs"


class Command(BaseCommand):
    """Writes ``state_machine.md`` and ``pause_queue_states.md`` into ``docs``, or into the directory that is named."""

    help = "Write state_machine.md and pause_queue_states.md from the tables of transitions."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--into", type=Path, default=DOCS, help="directory to write to")

    def handle(self, *args: Any, **options: Any) -> None:
        for name, text in (("state_machine.md", diagram.page()), ("pause_queue_states.md", entry_diagram.page())):
            (options["into"] / name).write_text(text)
            self.stdout.write(f"{options['into'] / name} is written.")
