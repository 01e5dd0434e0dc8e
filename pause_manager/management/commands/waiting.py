"""``manage.py waiting``: what waits for what, now and within a time."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import defaultdict
from datetime import timedelta
from typing import Any

from pause_manager.management.shell import Exit, ShellCommand, add_json, period
from pause_manager.models.clock import database_now
from pause_manager.observability import waiting


class Command(ShellCommand):
    """Prints ``waiting.counts`` beside the most and the mean of a time."""

    help = "Show how many runs and tasks wait, by the first reason, now and within a time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since", type=period, default=timedelta(hours=1), help="look back for so long: 30m, 2d (default 1h)"
        )
        add_json(parser)

    def carry_out(self, options: dict[str, Any]) -> Exit:
        now = waiting.counts()
        samples = waiting.history(database_now() - options["since"])
        minutes = len({sample.minute for sample in samples})
        kept: dict[tuple[str, str], list[int]] = defaultdict(list)
        for sample in samples:
            if sample.work != waiting.ALL:
                kept[sample.work, sample.reason].append(sample.count)
        rows = [
            {
                "work": work,
                "reason": reason,
                "now": now.get((work, reason), 0),
                "mean": round(sum(kept[work, reason]) / minutes, 1) if minutes else None,
                "most": max(kept[work, reason], default=None),
                "minutes": minutes,
            }
            for work, reason in sorted({*now, *kept})
        ]
        if options["json"]:
            for row in rows:
                self.line(row)
        elif not rows:
            self.line("Nothing waits.")
        else:
            self.line(f"{'':<6} {'reason':<18} {'now':>9} {'mean':>10} {'most':>9}  ({minutes} minutes)")
            for row in rows:
                mean, most = ("-" if row[name] is None else f"{row[name]:,}" for name in ("mean", "most"))
                self.line(f"{row['work']:<6} {row['reason']:<18} {row['now']:>9,} {mean:>10} {most:>9}")
        return Exit.OK
