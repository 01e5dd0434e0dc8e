"""``manage.py dependency``: the runs that a run waits for."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from automation.errors import DependencyRefused
from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run
from automation.models import RunDependency
from automation.runs import dependencies, run_names
from pause_manager import times
from pause_manager.actor import Actor
from pause_manager.management.shell import add_json, no_verb

VERBS = ("list", "add", "release")


class Command(RunCommand):
    """Calls ``runs.dependencies``."""

    help = "Show what a run waits for, have it wait for other runs, or let it start without one of them."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage
  3    refused: the run has started, does not wait for that run, or they would wait in a circle
  4    no such run
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        verbs.add_parser("list", help="list the dependencies of a run, and what became of each")
        add = verbs.add_parser("add", help="have a run that has not started wait for others")
        release = verbs.add_parser("release", help="let a run start though another has not completed")
        for verb in verbs.choices.values():
            verb.add_argument("run", metavar="RUN", help=run_names.RULE)
        add.add_argument(
            "--after", metavar="RUN", action="append", required=True, help="a run to wait for; may be repeated"
        )
        add.add_argument("--reason", default="", help="why, for the audit trail")
        release.add_argument(
            "--after", metavar="RUN", required=True, help="the other run; the whole id of one that was deleted"
        )
        release.add_argument("--reason", required=True, help="why, for the audit trail")
        for verb in verbs.choices.values():
            add_json(verb)

    def run_command(self, **options: Any) -> Exit:
        if options["verb"] is None:
            raise no_verb("dependency", *VERBS)
        getattr(self, f"_{options['verb']}")(options)
        return Exit.OK

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, DependencyRefused):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        return super().refusal(error)

    def _list(self, options: dict[str, Any]) -> None:
        run = find_run(options["run"])
        for row in RunDependency.objects.filter(run=run).order_by("created_at", "pk"):
            if options["json"]:
                self.line(
                    {
                        "run": str(run.pk),
                        "after": str(row.after_id),
                        "satisfied_at": row.satisfied_at and row.satisfied_at.isoformat(),
                        "released_at": row.released_at and row.released_at.isoformat(),
                        "released_by": row.released_by,
                        "release_reason": row.release_reason,
                    }
                )
            else:
                self.line(f"{row.after_id}  {_became(row)}")

    def _add(self, options: dict[str, Any]) -> None:
        run = find_run(options["run"])
        after = [find_run(name).pk for name in options["after"]]
        new = dependencies.add(run.pk, after, actor=Actor.shell(), reason=options["reason"])
        runs = "1 more run" if len(new) == 1 else f"{len(new)} more runs"
        self.tell(run, f"Run {run.pk} waits for {runs}.", as_json=options["json"], added=[str(pk) for pk in new])

    def _release(self, options: dict[str, Any]) -> None:
        run = find_run(options["run"])
        name = options["after"]
        after = UUID(name) if run_names.is_id(name) else find_run(name).pk  # its row may be gone
        run = dependencies.release(run.pk, after, actor=Actor.shell(), reason=options["reason"])
        self.tell(run, f"Run {run.pk} waits for run {after} no more.", as_json=options["json"], released=str(after))


def _became(row: RunDependency) -> str:
    if row.satisfied_at is not None:
        return f"completed; met at {times.written(row.satisfied_at)}"
    if row.released_at is not None:
        return f"released by {row.released_by} at {times.written(row.released_at)}: {row.release_reason}"
    return "waits"
