"""``manage.py erase_audit``: the one way to take old events away."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from pause_manager import times
from pause_manager.management.moment import moment
from pause_manager.models import ControlEvent
from pause_manager.observability import audit
from pause_manager.observability.actor import Actor


class Command(BaseCommand):
    """Asks first, unless told ``--yes``. Leaves an event that says who took away how many, and why."""

    help = "Delete the events of the audit trail from before a time, for good. Export them first (export_audit)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--before",
            type=moment,
            required=True,
            metavar="TIME",
            help="what is older goes: 2026-11-24, or 90d",
        )
        parser.add_argument("--reason", required=True, help="kept with the event that remains")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *, before: datetime, reason: str, yes: bool, **options: Any) -> None:
        if before > timezone.now():
            raise CommandError("Cannot erase: expected a time that has passed.")
        if not reason.strip():
            raise CommandError("Cannot erase: expected a reason, got none.")
        if not yes:
            count = ControlEvent.objects.filter(at__lt=before).count()
            said = input(f"Delete {count:,} events from before {times.written(before)} for good? [y/N] ")
            if said.strip().lower() not in ("y", "yes"):
                raise CommandError("Nothing was deleted.")
        erased = audit.erase(before, actor=Actor.shell(), reason=reason)
        self.stdout.write(f"Deleted {erased:,} events.")
