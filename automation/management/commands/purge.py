"""``manage.py purge``: delete runs and remove the rows and files of deleted runs."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum
from django.db.models.functions import Now
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from automation import retention
from automation.errors import TransitionRefused
from automation.management.places import add_place, place_of
from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run
from automation.models import Account, AutomationRun, Site, StageRun
from automation.retention import deletion, erasure, purge
from automation.retention.purge import Purged
from pause_manager.actor import Actor
from pause_manager.management.shell import period

PAGE = 500
MOST_COUNTED = 1_000_000


class Command(RunCommand):
    """Marks runs as deleted, so that nobody sees them, then removes their rows. It can be killed and repeated."""

    help = (
        "Delete final runs for good, with their items, failures and files: the named ones, those of a site or an "
        "account, else those with expired retention. Then remove what is left of all deleted runs."
    )

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("runs", nargs="*", metavar="RUN", help="id of a run, or the beginning of it")
        add_place(parser, is_required=False)
        parser.add_argument(
            "--ended-before",
            type=period,
            metavar="AGO",
            help="with --site or --account: runs that ended longer ago than this (90d)",
        )
        parser.add_argument("--events", action="store_true", help="with --account: the events of its deleted runs, too")
        parser.add_argument("--dry-run", action="store_true", help="show what would be deleted, change nothing")
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def run_command(self, **options: Any) -> Exit:
        place = place_of(options)
        _check(place, options)
        pages = _Chosen(place, options)
        if options["dry_run"]:
            self._preview(pages, as_json=options["json"])
            return Exit.OK
        if pages.are_chosen and not options["yes"]:
            self._ask(pages)
        begun = time.monotonic()
        pages.delete(reason=options["reason"])
        with _shown(as_json=options["json"]) as on_progress:
            gone = purge.purge(actor=Actor.shell(), on_progress=on_progress)
        events = 0
        if options["events"] and isinstance(place, Account):
            events = erasure.erase_events(place, actor=Actor.shell(), reason=options["reason"])
        self._tell(gone, events, time.monotonic() - begun, as_json=options["json"])
        return Exit.OK

    def _preview(self, pages: _Chosen, *, as_json: bool) -> None:
        runs, items = pages.count()
        left = AutomationRun.objects.filter(deleted_at__isnull=False).count()
        self.line(
            {"runs": runs, "items": items, "deleted_before": left}
            if as_json
            else f"Would delete {runs:,} runs with about {items:,} items, and remove the rest of {left:,} others."
        )

    def _ask(self, pages: _Chosen) -> None:
        runs, items = pages.count()
        said = input(f"Delete {runs:,} runs with about {items:,} items for good? [y/N] ")
        if said.strip().lower() not in ("y", "yes"):
            raise CommandRefused("Nothing was deleted.", Exit.REFUSED, "not_confirmed")

    def _tell(self, gone: Purged, events: int, seconds: float, *, as_json: bool) -> None:
        figures = {
            "runs": gone.runs,
            "items": gone.items,
            "slices": gone.slices,
            "failures": gone.failures,
            "files": gone.files,
            "events": events,
        }
        if as_json:
            self.line({**figures, "seconds": round(seconds, 3), "longest_seconds": round(gone.longest_seconds, 3)})
            return
        self.line(f"Deleted in {seconds:.1f} s: {', '.join(f'{count:,} {name}' for name, count in figures.items())}.")


def _check(place: Site | Account | None, options: dict[str, Any]) -> None:
    for is_wrong, why in (
        (options["events"] and not options["account"], "--events: expected --account with it."),
        (options["ended_before"] and place is None, "--ended-before: expected --site or --account with it."),
        (options["runs"] and place is not None, "Expected runs, a site or an account, got two of them."),
    ):
        if is_wrong:
            raise CommandRefused(why, Exit.USAGE, "usage")


class _Chosen:
    """The runs to delete."""

    def __init__(self, place: Site | Account | None, options: dict[str, Any]) -> None:
        self.are_chosen = place is not None or bool(options["runs"])
        self._named = [find_run(name).pk for name in options["runs"]]
        self._of_place = AutomationRun.objects.present().filter(finished_at__isnull=False)
        if isinstance(place, Site):
            self._of_place = self._of_place.filter(site=place)
        elif place is not None:
            self._of_place = self._of_place.filter(account=place.pk)
        if options["ended_before"]:
            self._of_place = self._of_place.filter(finished_at__lt=Now() - options["ended_before"])
        self._place = place

    def delete(self, *, reason: str) -> None:
        """Mark them all. Named runs must go; others that still have workers are left for the next call."""
        for run_id, why in self._pages():
            try:
                deletion.delete(run_id, actor=Actor.shell(), reason=reason or why)
            except TransitionRefused:
                if self._named:
                    raise

    def count(self) -> tuple[int, int]:
        """The number of runs, and about how many items they have."""
        if self._named:
            runs: QuerySet[AutomationRun] = AutomationRun.objects.filter(pk__in=self._named)
        elif self._place is not None:
            runs = self._of_place
        else:
            runs = AutomationRun.objects.filter(pk__in=[pk for pk, _ in retention.due(limit=MOST_COUNTED)])
        return runs.count(), _items(StageRun.objects.filter(run__in=runs))

    def _pages(self) -> Iterator[tuple[UUID, str]]:
        if self._named:
            yield from ((pk, "") for pk in self._named)
        elif self._place is not None:
            after = UUID(int=0)
            while found := list(self._of_place.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:PAGE]):
                yield from ((pk, "") for pk in found)
                after = found[-1]
        else:
            yield from retention.all_due()


def _items(stages: QuerySet[StageRun]) -> int:
    """About how many items the stages have made: each takes what the one before it made."""
    return stages.aggregate(items=Sum("total_items"))["items"] or 0


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[Purged], None] | None]:
    """Show a progress bar if stderr is a terminal."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    total = _items(StageRun.objects.filter(run__deleted_at__isnull=False))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=max(1, total))

        def on_progress(gone: Purged) -> None:
            bar.update(task, completed=gone.items, description=f"{gone.runs:,} runs, {gone.items:,} items")

        yield on_progress
