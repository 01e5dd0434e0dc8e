"""``manage.py pause_queue``: what waits, in the order in which it resumes, and verbs for what nobody takes up."""

from __future__ import annotations

import io
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import orjson
from django.db import transaction
from django.db.models import Q
from rich.console import Console
from rich.table import Table

from pause_manager import conf, manager, times
from pause_manager.actor import Actor
from pause_manager.capacity.needs import Needs
from pause_manager.management.reasons import lines_of
from pause_manager.management.shell import CommandRefused, Exit, ShellCommand
from pause_manager.messaging.message import GROUPS
from pause_manager.models import PauseQueueEntry, PollState
from pause_manager.pausable import chord_results
from pause_manager.pause_queue import answering, explanation, outlook, stuck

WIDE = 160


class Command(ShellCommand):
    """Without a verb a table, or with ``--json`` one object an entry and line."""

    help = "List parked work in resume order, with reasons."
    epilog = """\
exit codes of answer, drop, rename, force and reroute:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage
  3    nothing was changed: no message of the pause queue is meant
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object per entry and line")
        parser.add_argument("--limit", type=int, default=50, help="show at most this many (default 50; --json: all)")
        parser.add_argument(
            "--problem", choices=PauseQueueEntry.Problem.values, help="only entries with this problem, sent or not"
        )
        verbs = parser.add_subparsers(dest="verb")
        told: dict[str, Any] = {"epilog": self.epilog, "formatter_class": RawDescriptionHelpFormatter}
        drop = verbs.add_parser("drop", help="drop messages permanently: their tasks never run", **told)
        _add_selection(drop)
        rename = verbs.add_parser("rename", help="change the task that messages run", **told)
        rename.add_argument("old", help="the task that they name")
        rename.add_argument("new", help="the task that they are to run")
        rename.add_argument("--queue", default="", help="only those of this queue")
        force = verbs.add_parser(
            "force", help="start work that waits for capacity anyway, without a capacity check", **told
        )
        force.add_argument("entries", nargs="+", type=int, metavar="ENTRY", help="numbers of entries")
        reroute = verbs.add_parser("reroute", help="move messages to another queue", **told)
        _add_selection(reroute)
        reroute.add_argument("--to", required=True, metavar="QUEUE", help="the queue that they go to")
        answer = verbs.add_parser("answer", help="decide about tasks that have failed and ask", **told)
        _add_selection(answer)
        answer.add_argument(
            "--answer",
            required=True,
            choices=PauseQueueEntry.Answer.values,
            help="retry: run them again, with all their retries; skip: drop them; fail: let them fail",
        )
        explain = verbs.add_parser("explain", help="list every reason why an entry waits, and its place in line")
        explain.add_argument("entry", type=int, metavar="ENTRY", help="number of the entry")
        explain.add_argument("--json", action="store_true", help="one JSON object, for machines")
        for verb in (drop, rename, force, reroute, answer):
            verb.add_argument("--reason", required=True, help="why, for the audit trail")
            verb.add_argument("--json", action="store_true", help="one JSON object, for machines")

    def carry_out(self, options: dict[str, Any]) -> Exit:
        verb = options.get("verb")
        if verb is None:
            self._show(options)
            return Exit.OK
        if verb == "explain":
            return self._explain(options)
        who: dict[str, Any] = {"actor": Actor.shell(), "reason": options["reason"]}
        if verb == "rename":
            changed = stuck.rename(options["old"], options["new"], queue=options["queue"], **who)
        elif verb == "drop":
            changed = stuck.drop(_selection(options), **who)
        elif verb == "force":
            changed = [pk for pk in options["entries"] if manager.force_resume(pk, **who)]
        elif verb == "answer":
            changed = answering.answer(_selection(options), options["answer"], **who)
        else:
            changed = stuck.reroute(_selection(options), options["to"], **who)
        if options["json"]:
            self.line({"verb": verb, "entries": changed})
        else:
            self.line(f"{_DONE[verb]}: {len(changed):,}." if changed else "Nothing was changed: no entry is meant.")
        return Exit.OK if changed else Exit.REFUSED

    def _explain(self, options: dict[str, Any]) -> Exit:
        entry = PauseQueueEntry.objects.light().filter(pk=options["entry"]).first()
        if entry is None:
            raise CommandRefused(f"Cannot find entry {options['entry']}.", Exit.NOT_FOUND, "not_found")
        explained = explanation.explain(entry)
        if options["json"]:
            self.line({"entry": entry.pk, **explained.as_dict()})
            return Exit.OK
        self.line(f"Entry {entry.pk}, {entry.task_name} {entry.ref}:")
        for line in lines_of(explained):
            self.line(line)
        return Exit.OK

    def _show(self, options: dict[str, Any]) -> None:
        shown = PauseQueueEntry.objects.waiting()
        if options["problem"]:
            shown = PauseQueueEntry.objects.stuck().filter(problem=options["problem"])
        # The message itself, which may be large, is not read.
        shown = shown.light().annotate(is_in_group=Q(message__has_key=GROUPS))
        forgotten = chord_results.forgotten_after()
        if options["json"]:
            # One transaction: a pooler would lose a cursor that outlives it.
            with transaction.atomic():
                for entries in _batches(shown.iterator(chunk_size=1_000)):
                    now = outlook.of(entries)
                    for entry in entries:
                        self.stdout.write(orjson.dumps(_line(entry, forgotten, now.get(entry.pk))).decode())
            return
        count = shown.count()
        polled_at = PollState.objects.values_list("polled_at", flat=True).first()
        last = f"the last poll was at {times.written(polled_at)}" if polled_at else self._first_poll()
        if count:
            self._draw(list(shown[: max(1, options["limit"])]), forgotten)
        self.stdout.write(f"{f'{count:,} wait' if count > 1 else '1 waits' if count else 'Nothing waits'}; {last}.")
        if PauseQueueEntry.objects.waiting().filter(waits_for=PauseQueueEntry.WaitsFor.CAPACITY).exists():
            self.stdout.write("To start one anyway: pause_queue force ENTRY --reason WHY, or resume_run RUN --force.")
        asking = PauseQueueEntry.objects.waiting().filter(waits_for=PauseQueueEntry.WaitsFor.ANSWER).count()
        if asking:
            self.stdout.write(f"Failed, and waiting for an answer: {asking:,} (pause_queue answer ENTRY).")
        self._tell_the_rest()

    def _first_poll(self) -> str:
        return f"the first poll comes within {conf.settings().poll_interval_seconds:g} s of beat's start"

    def _draw(self, entries: list[PauseQueueEntry], forgotten: timedelta | None) -> None:
        is_terminal = self.stdout.isatty()
        console = Console(file=io.StringIO(), width=None if is_terminal else WIDE, force_terminal=is_terminal)
        with console.capture() as captured:
            console.print(_table(entries, forgotten))
        self.stdout.write(captured.get(), ending="")

    def _tell_the_rest(self) -> None:
        """Return what is on its way and not taken up, and what nobody takes up."""
        on_its_way = PauseQueueEntry.objects.unconfirmed().count()
        if on_its_way:
            self.stdout.write(f"Sent on and not taken up yet: {on_its_way:,}.")
        for problem, count in stuck.counts().items():
            if count:
                label = PauseQueueEntry.Problem(problem).label
                self.stdout.write(f"Nobody takes up {count:,}: {label} (--problem {problem}; drop, rename, reroute).")


_DONE = {"answer": "Answered", "drop": "Dropped", "force": "Started anyway", "rename": "Renamed", "reroute": "Rerouted"}


def _add_selection(parser: ArgumentParser) -> None:
    parser.add_argument("entries", nargs="*", type=int, metavar="ENTRY", help="numbers of entries")
    parser.add_argument("--task", default="", help="only those of this task")
    parser.add_argument("--queue", default="", help="only those of this queue")
    parser.add_argument("--problem", default="", help="only those with this problem")


def _selection(options: dict[str, Any]) -> stuck.Selection:
    return stuck.Selection(
        ids=tuple(options["entries"]),
        task_name=options["task"],
        queue=options["queue"],
        problem=options["problem"] or "",
    )


def _batches(entries: Iterator[PauseQueueEntry]) -> Iterator[list[PauseQueueEntry]]:
    while batch := list(islice(entries, 1_000)):
        yield batch


def _forgotten_from(entry: PauseQueueEntry, after: timedelta | None) -> datetime | None:
    """From when on the backend may have forgotten what the others of its chord or group have done."""
    return entry.paused_at + after if after is not None and entry.is_in_group else None  # type: ignore[attr-defined]


def _table(entries: list[PauseQueueEntry], forgotten: timedelta | None) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("entry", "priority", "what", "since", "needs", "why"):
        shown.add_column(name, justify="right" if name in ("entry", "priority") else "left")
    now = outlook.of(entries)
    for entry in entries:
        since = times.written(entry.paused_at)
        what = f"{entry.task_name} {entry.ref}" if entry.ref.startswith("task:") else entry.ref
        needs = str(Needs(**entry.needs)) if entry.waits_for == PauseQueueEntry.WaitsFor.CAPACITY else "–"
        waits = now.get(entry.pk)
        why = waits.sentence if waits is not None else entry.reason
        if entry.problem:
            why = f"{entry.get_problem_display()}: {entry.reason}"
        if (at := _forgotten_from(entry, forgotten)) is not None:
            why += f"; its chord's results expire from {times.written(at)} on"
        shown.add_row(str(entry.pk), str(entry.priority), what, since, needs, why)
    return shown


def _line(entry: PauseQueueEntry, forgotten: timedelta | None, now: outlook.Outlook | None) -> dict[str, Any]:
    names = ("id", "ref", "task_name", "queue", "priority", "needs", "waits_for", "reason", "paused_at", "resume_after")
    told = {name: getattr(entry, name) for name in (*names, "attempts", "problem", "expires_at")}
    told["now"] = now.as_dict() if now is not None else None
    return {**told, "results_expire_from": _forgotten_from(entry, forgotten)}
