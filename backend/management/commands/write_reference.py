"""``manage.py write_reference``: write the pages of ``docs/reference`` that come from the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backend import reference


class Command(BaseCommand):
    """Needs no database and no server."""

    help = "Write the generated pages of docs/reference: settings, commands, events, metrics, errors, state machine."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, metavar="DIR", help="write into this folder instead of docs/reference")

    def handle(self, *args: Any, **options: Any) -> None:
        for path in reference.write(options["to"] or reference.DIRECTORY):
            self.stdout.write(str(path))
