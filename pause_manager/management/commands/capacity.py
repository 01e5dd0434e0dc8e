"""``manage.py capacity``: the nodes, what they have, and who uses it."""

from __future__ import annotations

import io
import time
from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pause_manager import database, kinds, nodes
from pause_manager.management import capacity_table

NOBODY = "No node was seen in the last hour: no worker is running (start one with: manage.py up)."
CORRECTED = "* strangers want that much; on a full CPU they get less"
WIDE = 160


class Command(BaseCommand):
    """Without options one table; ``--watch`` keeps it up to date until Ctrl-C."""

    help = "Show the nodes: cores, memory and GPUs, and how much of them is used by us and by others."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--watch", action="store_true", help="keep showing, each second, until Ctrl-C")
        parser.add_argument("--why", metavar="PIPELINE", help="say whether new work of PIPELINE would wait, and why")
        parser.add_argument("--json", action="store_true", help="one JSON object a node and line")

    def handle(self, *, watch: bool, json: bool, why: str | None = None, **options: Any) -> None:
        try:
            if why is not None:
                self._why(why, json)
            elif json:
                self._json(watch)
            elif watch:
                self._watch()
            else:
                is_terminal = self.stdout.isatty()
                console = Console(file=io.StringIO(), width=None if is_terminal else WIDE, force_terminal=is_terminal)
                with console.capture() as captured:
                    console.print(Group(*_picture(nodes.states())))
                self.stdout.write(captured.get(), ending="")
        except KeyboardInterrupt:
            return

    def _why(self, pipeline: str, json: bool) -> None:
        verdicts = kinds.verdicts(pipeline)
        if not pipeline or not verdicts:
            known = ", ".join(sorted({kind.pipeline for kind in kinds.every()})) or "none"
            raise CommandError(f"Cannot find pipeline {pipeline!r}: expected one of {known}.")
        for kind, verdict in verdicts:
            if json:
                line = {"pipeline": kind.pipeline, "stage": kind.stage, **vars(verdict)}
                self.stdout.write(orjson.dumps(line).decode())
                continue
            word = "would wait" if verdict.should_pause else "may start"
            self.stdout.write(f"{kind.stage} (needs {kind.needs}) {word}: {verdict.sentence}")

    def _json(self, watch: bool) -> None:
        while True:
            for line in capacity_table.lines_of(nodes.states()):
                self.stdout.write(orjson.dumps(line).decode())
            if not watch:
                return
            self.stdout.flush()
            time.sleep(1)

    def _watch(self) -> None:
        with Live(console=Console(), auto_refresh=False, screen=False) as live:
            while True:
                try:
                    live.update(Group(*_picture(nodes.states())), refresh=True)
                except DatabaseError as error:
                    if not database.is_away(error):
                        raise
                    database.close()
                    live.update(Text(f"The database is {database.told(error)}.", style="red"), refresh=True)
                time.sleep(1)


def _picture(states: list[nodes.NodeState]) -> list[Any]:
    if not states:
        return [Text(NOBODY)]
    is_corrected = any(state.sample.foreign_corrected_by for state in states)
    return [capacity_table.table(states), *([Text(CORRECTED, style="dim")] if is_corrected else [])]
