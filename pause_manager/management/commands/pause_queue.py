"""``manage.py pause_queue``: what waits for capacity or the end of a hold, in the order in which it goes on."""

from __future__ import annotations

import io
from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from pause_manager.models import PauseQueueEntry, PollState
from pause_manager.needs import Needs

WIDE = 160


class Command(BaseCommand):
    """A table, or with ``--json`` one object an entry and line."""

    help = "Show what waits for capacity or the end of a hold, in the order in which it goes on, each with why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object an entry and line")
        parser.add_argument("--limit", type=int, default=50, help="show so many at most (default 50; --json: all)")

    def handle(self, *, json: bool, limit: int, **options: Any) -> None:
        waiting = PauseQueueEntry.objects.waiting()
        if json:
            for entry in waiting.iterator(chunk_size=1_000):
                self.stdout.write(orjson.dumps(_line(entry)).decode())
            return
        count = waiting.count()
        polled_at = PollState.objects.values_list("polled_at", flat=True).first()
        last = f"the last poll was at {polled_at:%H:%M:%S %Z}" if polled_at else "nobody has polled yet"
        if not count:
            self.stdout.write(f"Nothing waits; {last}.")
            return
        is_terminal = self.stdout.isatty()
        console = Console(file=io.StringIO(), width=None if is_terminal else WIDE, force_terminal=is_terminal)
        with console.capture() as captured:
            console.print(_table(list(waiting[: max(1, limit)])))
        self.stdout.write(captured.get(), ending="")
        self.stdout.write(f"{count:,} wait{'s' if count == 1 else ''}; {last}.")


def _table(entries: list[PauseQueueEntry]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("entry", "priority", "what", "since", "needs", "why"):
        shown.add_column(name, justify="right" if name in ("entry", "priority") else "left")
    for entry in entries:
        since = f"{entry.paused_at:%Y-%m-%d %H:%M:%S}"
        what = entry.ref if entry.message is None else f"{entry.task_name} {entry.ref}"
        needs = str(Needs(**entry.needs)) if entry.kept_by == PauseQueueEntry.KeptBy.CAPACITY else "no hold"
        shown.add_row(str(entry.pk), str(entry.priority), what, since, needs, entry.reason)
    return shown


def _line(entry: PauseQueueEntry) -> dict[str, Any]:
    names = ("id", "ref", "task_name", "queue", "priority", "needs", "kept_by", "reason", "paused_at", "resume_after")
    return {name: getattr(entry, name) for name in (*names, "attempts")}
