"""``manage.py capacity``: the nodes, what they have, and who uses it; whether that is watched; nodes' thresholds."""

from __future__ import annotations

import io
import time
from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import CommandError
from django.db import Error as DatabaseError
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pause_manager import conf, database, manager, nodes, workloads
from pause_manager.actor import Actor
from pause_manager.management import capacity_table
from pause_manager.management.shell import Exit, ShellCommand
from pause_manager.nodes import operator_threshold, watching
from pause_manager.nodes.machines import identity, renaming

NOBODY = "No node was seen in the last hour: no worker is running (start one with: manage.py up)."
CORRECTED = "* other processes want that much; on a full CPU they get less"
WIDE = 160


OFF = "Capacity is not watched: work starts without a capacity check"


class Command(ShellCommand):
    """Without a verb one table; ``--watch`` keeps it up to date until Ctrl-C."""

    help = "Show the nodes: cores, memory and GPUs, and how much of them is used by us and by others."
    epilog = """\
exit codes:
  0    done, also if it was so already
  1    an unexpected error, such as no database
  2    wrong usage
  4    no such node or pipeline
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--watch", action="store_true", help="keep showing, each second, until Ctrl-C")
        parser.add_argument("--why", metavar="PIPELINE", help="say whether new work of PIPELINE would wait, and why")
        parser.add_argument("--json", action="store_true", help="one JSON object per node and line")
        verbs = parser.add_subparsers(dest="verb")
        on = verbs.add_parser("on", help="check capacity before work starts, in the whole system")
        off = verbs.add_parser("off", help="do not check capacity; work that waits only for it resumes")
        own = verbs.add_parser("threshold", help="set or remove a node's own threshold")
        own.add_argument("node", help="name of the node")
        own.add_argument("threshold", help="the share that must be free for new work: 35%%, 0.35, or none")
        for verb in (on, off, own):
            verb.add_argument("--reason", default="", help="why, for the audit trail")
            verb.add_argument("--json", action="store_true", help="one JSON object, for machines")

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verb = options.get("verb")
        if verb == "threshold":
            self._set_threshold(options)
        elif verb is not None:
            self._set_watched(verb == "on", options)
        else:
            self._show(watch=options["watch"], json=options["json"], why=options.get("why"))
        return Exit.OK

    def _set_threshold(self, options: dict[str, Any]) -> None:
        share = operator_threshold.parsed(options["threshold"])
        operator_threshold.set_own(options["node"], share, actor=Actor.shell(), reason=options["reason"])
        if options["json"]:
            self.line({"node": options["node"], "pause_below": share})
        else:
            self.line(f"The threshold of {options['node']} is {operator_threshold.told(share)}.")

    def _set_watched(self, is_watched: bool, options: dict[str, Any]) -> None:
        has_changed = watching.set_watched(is_watched, actor=Actor.shell(), reason=options["reason"])
        if options["json"]:
            self.line({"is_watched": watching.is_watched(), "changed": has_changed})
            return
        already = "" if has_changed else " already"
        if not is_watched:
            self.line(
                f"Capacity is not watched{already}; work that waits only for capacity resumes with the next poll."
            )
        elif conf.settings().capacity:
            self.line(f"Capacity is watched{already}.")
        else:
            self.line('Capacity is watched once the project\'s settings allow it: PAUSE_MANAGER["capacity"] is False.')

    def _show(self, *, watch: bool, json: bool, why: str | None) -> None:
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
        verdicts = manager.verdicts(pipeline)
        if not pipeline or not verdicts:
            known = ", ".join(sorted({kind.pipeline for kind in workloads.kinds()})) or "none"
            raise CommandError(
                f"Cannot find pipeline {pipeline!r}: expected one of {known}.", returncode=Exit.NOT_FOUND
            )
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
                    live.update(Text(f"The database is {database.describe(error)}.", style="red"), refresh=True)
                time.sleep(1)


def _picture(states: list[nodes.KnownNode]) -> list[Any]:
    if not states:
        return [Text(NOBODY)]
    told: list[Any] = []
    if not watching.is_watched():
        how = "manage.py capacity on" if conf.settings().capacity else 'PAUSE_MANAGER["capacity"] is False'
        told.append(Text(f"{OFF} ({how}).", style="yellow"))
    is_corrected = any(state.sample.foreign_corrected_by for state in states)
    told += [Text(sentence) for sentence in capacity_table.sights(states)]
    views = [state.view for state in states if state.is_online and state.view.gpu_problem]
    unknown = [
        f"the GPUs of {view.name} are unknown: {view.gpu_problem}; it takes no GPU work, and CPU work as ever"
        for view in views
    ]
    troubles = [*identity.contested(), *renaming.differing(), *unknown]
    told += [Text(f"{sentence[0].upper()}{sentence[1:]}.", style="red") for sentence in troubles]
    return [capacity_table.table(states), *told, *([Text(CORRECTED, style="dim")] if is_corrected else [])]
