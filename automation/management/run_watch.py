"""Watches a run until it ends: a live table on a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from automation import gate
from automation.models import TERMINAL, AutomationRun
from automation.reports import progress, status
from pause_manager import database, times

POLL_SECONDS = 0.5
PLAIN_SECONDS = 2.0
WAITING_SECONDS = 30.0
PATIENCE_SECONDS = 120.0
STYLES = {"running": "cyan", "completed": "green", "failed": "red", "cancelled": "red", "paused": "yellow"}
"""Color by status; others are yellow."""

Snapshot = dict[str, Any]


def snapshots(run_id: UUID) -> Iterator[Snapshot]:
    """Yield the run's progress every half second until it is final. Waits for a database that restarts."""
    lost_since: float | None = None
    while True:
        try:
            run = AutomationRun.objects.with_leases().get(pk=run_id)
            reasons = [] if run.lifecycle in TERMINAL else gate.explain(run)
            shot = {"run": str(run_id), **progress.snapshot(run, has_reasons=not gate.may_proceed(reasons))}
            shot["reasons"] = [reason.sentence for reason in reasons]
            lost_since = None
        except DatabaseError as error:
            if not database.is_away(error):
                raise
            database.close()
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > PATIENCE_SECONDS:
                raise
            time.sleep(1)
            continue
        yield shot
        if run.lifecycle in TERMINAL:
            return
        time.sleep(POLL_SECONDS)


def watch_json(run_id: UUID, write: Callable[[str | dict[str, Any]], None]) -> None:
    """Write one snapshot per line, whenever something has changed."""
    last: Any = None
    for shot in snapshots(run_id):
        counts = [(stage["processed_items"], stage["failed_items"]) for stage in shot["stages"]]
        key = (shot["status"], counts, shot["reasons"])
        if key != last:
            last = key
            write(shot)


def watch_plain(run_id: UUID, write: Callable[[str | dict[str, Any]], None]) -> None:
    """Write a line every two seconds while items finish, and one for every change of status or stage.

    While the run waits and only the numbers in its reason change, write a line every half minute.
    """
    last_line, last_head, last_counts, said_at = "", "", "", 0.0
    for shot in snapshots(run_id):
        line, counts = plain_line(shot), plain_line({**shot, "reasons": []})
        head = f"{shot['status']} {current(shot)['slug']} {bool(shot['reasons'])}"
        pause = PLAIN_SECONDS if counts != last_counts else WAITING_SECONDS
        if line != last_line and (head != last_head or time.monotonic() - said_at >= pause):
            last_line, last_head, last_counts, said_at = line, head, counts, time.monotonic()
            write(line)


def watch_live(run_id: UUID) -> None:
    """Show the table of stages on a terminal, updated in place."""
    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        for shot in snapshots(run_id):
            live.update(picture(shot), refresh=True)


def current(shot: Snapshot) -> dict[str, Any]:
    """The current stage: the first that is not complete, else the last."""
    stages: list[dict[str, Any]] = shot["stages"]
    return next((stage for stage in stages if stage["status"] != "completed"), stages[-1])


def plain_line(shot: Snapshot) -> str:
    stage, overall = current(shot), shot["overall"]
    parts = [
        f"{status.in_words(shot['status']):<9} {overall['percentage']:5.1f} %",
        f"{stage['title']}: {stage['processed_items']:,} of {stage['total_items']:,}",
    ]
    if failed := sum(entry["failed_items"] for entry in shot["stages"]):
        parts.append(f"{failed:,} failed")
    return "  ".join([*parts, *shot["reasons"][:1]])


def picture(shot: Snapshot) -> Group:
    """A heading and one row per stage."""
    now, overall = shot["status"], shot["overall"]
    heading = Text.assemble(
        "Run ", (shot["run"], "bold"), "  ", (status.in_words(now), f"bold {STYLES.get(now, 'yellow')}"),
        f"  {overall['percentage']:.0f} %  {times.length(shot['durations']['active_seconds'])}",
    )  # fmt: skip
    table = Table.grid(padding=(0, 2))
    for stage in shot["stages"]:
        done = stage["processed_items"] + stage["failed_items"]
        style = STYLES.get(stage["status"], "dim")
        rate = f"{stage['items_per_second']:,.1f}/s" if stage["items_per_second"] else ""
        eta = f"{times.length(stage['eta_seconds'])} left" if stage["eta_seconds"] else ""
        failed = f"{stage['failed_items']:,} failed" if stage["failed_items"] else ""
        table.add_row(
            Text(stage["title"]),
            ProgressBar(total=max(1, stage["total_items"]), completed=done, width=28),
            Text(f"{done:,} of {stage['total_items']:,}" if stage["total_items"] else ""),
            Text(stage["status"], style=style),
            Text(rate),
            Text(eta or failed, style="red" if failed and not eta else ""),
        )
    reasons = [Text(reason, style="yellow") for reason in shot["reasons"]]
    return Group(heading, table, *reasons)
