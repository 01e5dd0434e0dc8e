"""``manage.py erase_audit``: the only way to delete old events."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from pause_manager import times
from pause_manager.actor import Actor
from pause_manager.management.shell import Exit, ShellCommand, moment
from pause_manager.models import ControlEvent
from pause_manager.observability import audit


class Command(ShellCommand):
    """Asks first, unless ``--yes`` is given. Leaves an event that records who deleted how many, and why."""

    help = "Permanently delete the events of the audit trail before a time. Export them first (export_audit)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--before",
            type=moment,
            required=True,
            metavar="TIME",
            help="delete older events: 2026-11-24, or 90d",
        )
        parser.add_argument("--reason", required=True, help="kept with the event that remains")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def carry_out(self, options: dict[str, Any]) -> Exit:
        before: datetime = options["before"]
        reason: str = options["reason"]
        if before > timezone.now():
            raise CommandError("Cannot erase: expected a time that has passed.")
        if not reason.strip():
            raise CommandError("Cannot erase: expected a reason, got none.")
        if not options["yes"]:
            count = ControlEvent.objects.filter(at__lt=before).count()
            said = input(f"Delete {count:,} events before {times.written(before)} permanently? [y/N] ")
            if said.strip().lower() not in ("y", "yes"):
                raise CommandError("Nothing was deleted.")
        erased = audit.erase(before, actor=Actor.shell(), reason=reason)
        self.stdout.write(f"Deleted {erased:,} events.")
        return Exit.OK
