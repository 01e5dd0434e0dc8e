"""Base of the run commands: exit codes, finding the run, printing results and refusals."""

from __future__ import annotations

from abc import abstractmethod
from argparse import ArgumentParser
from typing import Any

from automation.errors import AutomationError, TransitionRefused
from automation.models import AutomationRun, Lifecycle
from automation.reports import status
from automation.runs import run_names
from pause_manager.management.shell import CommandRefused, Exit, ShellCommand, add_json

__all__ = ["CommandRefused", "Exit", "RunCommand", "facts_of", "find_run"]


OF_STATUS = {
    str(Lifecycle.COMPLETED): Exit.OK,
    status.COMPLETED_WITH_FAILURES: Exit.FAILED,
    str(Lifecycle.FAILED): Exit.FAILED,
    str(Lifecycle.CANCELLED): Exit.CANCELLED,
}

EPILOG = """\
exit codes:
  0    done; with --wait and watch_run: the run completed, and no item failed
  1    the run failed, or completed with items that failed; or an unexpected error
  2    wrong usage or input
  3    refused: not possible in the status of the run; nothing was changed
  4    no such run or site
  5    the run was cancelled
  8    resume_run: your hold is released, and something else still keeps the run
  130  interrupted with Ctrl-C; the run is not affected
"""


class RunCommand(ShellCommand):
    """Base of the run commands. Subclasses define ``arguments`` and ``run_command``."""

    epilog = EPILOG

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_json(parser)
        self.arguments(parser)

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the command's own arguments."""
        parser.add_argument("run", metavar="RUN", help=run_names.RULE)

    @abstractmethod
    def run_command(self, **options: Any) -> Exit:
        """Do the work and return the exit code."""

    def carry_out(self, options: dict[str, Any]) -> Exit:
        return self.run_command(**options)

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, TransitionRefused):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        if isinstance(error, AutomationError):
            return CommandRefused(str(error), Exit.USAGE, error.code)
        return super().refusal(error)

    def tell(self, run: AutomationRun, sentence: str, *, as_json: bool, **more: Any) -> None:
        """Print the result: the sentence, or the run's state as JSON."""
        self.line(facts_of(run) | more if as_json else sentence)


def facts_of(run: AutomationRun) -> dict[str, Any]:
    """The run as commands print it."""
    return {
        "run": str(run.pk),
        "pipeline": run.pipeline,
        "site": run.site.slug,
        "status": status.of(run),
        "lifecycle": str(run.lifecycle),
        "total_items": run.total_items,
        "failed_items": run.failed_items,
        "paused_at": run.paused_at.isoformat() if run.paused_at else None,
    }


def find_run(wanted: str) -> AutomationRun:
    """Find the run by one of its names, see ``run_names``."""
    try:
        return run_names.find(wanted, AutomationRun.objects.present().select_related("site").with_leases())
    except run_names.NotARunName as error:
        raise CommandRefused(str(error), Exit.USAGE, "usage") from None
    except run_names.NoSuchRun as error:
        raise CommandRefused(str(error), Exit.NOT_FOUND, error.code) from None
    except run_names.AmbiguousRunName as error:
        raise CommandRefused(str(error), Exit.USAGE, error.code) from None
