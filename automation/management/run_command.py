"""What every run command shares: exit codes, finding the run, and one way to tell results and refusals."""

from __future__ import annotations

import argparse
import os
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections

from automation.errors import AutomationError, TransitionRefused
from automation.models import AutomationRun, Lifecycle
from automation.reports import status
from automation.runs import run_names
from pause_manager import database
from pause_manager.management.shell import Exit, quiet, shell_actor

__all__ = ["Exit", "RunCommand", "RunCommandError", "facts_of", "find_run", "quiet", "shell_actor"]


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
  3    refused: the run is in no state for it; nothing was changed
  4    no such run or site
  5    the run was cancelled
  8    resume_run: your hold is released, and something else still keeps the run
  130  interrupted with Ctrl-C; the run is not affected
"""


class RunCommandError(CommandError):
    """An error with an exit code of the list and a code for machines."""

    def __init__(self, message: str, exit_code: Exit, code: str) -> None:
        super().__init__(message, returncode=exit_code)
        self.code = code


class RunCommand(BaseCommand, ABC):
    """Base of the run commands. Subclasses define ``arguments`` and ``run_command``."""

    epilog = EPILOG

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs |= {"epilog": self.epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
        self.arguments(parser)

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the command's own arguments."""
        parser.add_argument("run", metavar="RUN", help=run_names.RULE)

    @abstractmethod
    def run_command(self, **options: Any) -> Exit:
        """Do the work and return the exit code."""

    def handle(self, **options: Any) -> None:
        try:
            with quiet(options["verbosity"]):
                code = self.run_command(**options)
        except RunCommandError:
            raise
        except TransitionRefused as error:
            raise RunCommandError(str(error), Exit.REFUSED, error.code) from error
        except AutomationError as error:
            raise RunCommandError(str(error), Exit.USAGE, error.code) from error
        except ImproperlyConfigured as error:
            raise RunCommandError(str(error), Exit.FAILED, "improperly_configured") from error
        except DatabaseError as error:
            raise RunCommandError(database.sentence(error), Exit.FAILED, "database_unavailable") from error
        except KeyboardInterrupt:
            raise RunCommandError("interrupted", Exit.INTERRUPTED, "interrupted") from None
        except BrokenPipeError:  # whoever read, as `head`, has read enough; nothing more may be written at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Exit.FAILED
        if code:
            sys.exit(code)

    def run_from_argv(self, argv: list[str]) -> None:
        self._called_from_command_line = True  # what cannot be parsed is told in a line, not as a traceback
        options = vars(self.create_parser(argv[0], argv[1]).parse_args(argv[2:]))
        options.pop("args", None)
        try:
            self.execute(**options)
        except CommandError as error:
            if options["traceback"]:
                raise
            code = error.code if isinstance(error, RunCommandError) else "failed"
            said = orjson.dumps({"error": code, "message": str(error)}).decode() if options["json"] else str(error)
            self.stderr.write(said, style_func=None if sys.stderr.isatty() else str)
            sys.exit(error.returncode)
        finally:
            connections.close_all()

    def tell(self, run: AutomationRun, sentence: str, *, as_json: bool, **more: Any) -> None:
        """Say what was done: the sentence, or the run's state as JSON."""
        self.line(facts_of(run) | more if as_json else sentence)

    def line(self, what: str | dict[str, Any]) -> None:
        self.stdout.write(what if isinstance(what, str) else orjson.dumps(what, default=str).decode())
        self.stdout.flush()


def facts_of(run: AutomationRun) -> dict[str, Any]:
    """The run as the commands print it."""
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
    """The run that is called so, see ``run_names``."""
    try:
        return run_names.find(wanted, AutomationRun.objects.present().select_related("site").with_leases())
    except run_names.NotARunName as error:
        raise RunCommandError(str(error), Exit.USAGE, "usage") from None
    except run_names.NoSuchRun as error:
        raise RunCommandError(str(error), Exit.NOT_FOUND, error.code) from None
    except run_names.AmbiguousRunName as error:
        raise RunCommandError(str(error), Exit.USAGE, error.code) from None
