"""The base of all commands: exit codes, refusals, arguments that several have."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import orjson
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from pause_manager import database
from pause_manager.errors import FleetRefused, PauseManagerError

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Exit(IntEnum):
    """Exit codes of every command; each has one meaning."""

    OK = 0
    """Done. With `--wait`, `watch_run`: the run completed, and no item failed."""
    FAILED = 1
    """The run failed or completed with failed items; or an unexpected error."""
    USAGE = 2
    """Wrong usage or input."""
    REFUSED = 3
    """Refused: the object is in no state for it. Nothing was changed."""
    NOT_FOUND = 4
    """No such run, site, account, agent or node."""
    CANCELLED = 5
    """The run was cancelled."""
    LOST_LEASES = 6
    """`fleet … --wait`: only leases of lost workers are left; they end after the resume."""
    TIME_IS_UP = 7
    """`fleet … --wait`: not drained in time."""
    WAITS = 8
    """`resume_run`: your hold is released, and something else still holds the run; the output says what."""
    INTERRUPTED = 130
    """Interrupted with Ctrl-C. The run is not affected."""


class CommandRefused(CommandError):
    """An error with an exit code of :class:`Exit` and a code for machines."""

    def __init__(self, message: str, exit_code: Exit, code: str) -> None:
        super().__init__(message, returncode=exit_code)
        self.code = code


class ShellCommand(BaseCommand, ABC):
    """Base of all commands: prints results to stdout, and refusals to stderr with an exit code."""

    epilog = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs |= {"epilog": self.epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    @abstractmethod
    def carry_out(self, options: dict[str, Any]) -> Exit:
        """Do the work and return the exit code."""

    def refusal(self, error: Exception) -> CommandRefused | None:
        """Return what the user is told of an error of the domain; ``None`` if it is not expected."""
        if isinstance(error, FleetRefused):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        if isinstance(error, PauseManagerError):
            return CommandRefused(str(error), Exit.NOT_FOUND if error.code == "not_found" else Exit.USAGE, error.code)
        return None

    def handle(self, **options: Any) -> None:
        try:
            with quiet(options["verbosity"]):
                code = self.carry_out(options)
        except CommandError:
            raise
        except ImproperlyConfigured as error:
            raise CommandRefused(str(error), Exit.FAILED, "improperly_configured") from error
        except DatabaseError as error:
            raise CommandRefused(database.sentence(error), Exit.FAILED, "database_unavailable") from error
        except KeyboardInterrupt:
            raise CommandRefused("interrupted", Exit.INTERRUPTED, "interrupted") from None
        except BrokenPipeError:  # the reader, such as `head`, has read enough; nothing more may be written at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Exit.FAILED
        except Exception as error:
            refused = self.refusal(error)
            if refused is None:
                raise
            raise refused from error
        if code:
            sys.exit(code)

    def run_from_argv(self, argv: list[str]) -> None:
        self._called_from_command_line = True  # arguments that cannot be parsed get a line, not a traceback
        options = vars(self.create_parser(argv[0], argv[1]).parse_args(argv[2:]))
        options.pop("args", None)
        try:
            self.execute(**options)
        except CommandError as error:
            if options["traceback"]:
                raise
            code = error.code if isinstance(error, CommandRefused) else "failed"
            as_json = options.get("json", False)
            text = orjson.dumps({"error": code, "message": str(error)}).decode() if as_json else str(error)
            self.stderr.write(text, style_func=None if sys.stderr.isatty() else str)
            sys.exit(error.returncode)
        finally:
            connections.close_all()

    def line(self, what: str | dict[str, Any]) -> None:
        """Print a sentence, or an object as JSON."""
        self.stdout.write(what if isinstance(what, str) else orjson.dumps(what, default=str).decode())
        self.stdout.flush()


@contextmanager
def quiet(verbosity: int) -> Iterator[None]:
    """Keep the log lines of a service out of a command's output; ``-v 2`` shows them."""
    before = logging.root.manager.disable
    if verbosity < 2:
        logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def no_verb(command: str, *verbs: str) -> CommandError:
    """Return the error of a command that was given none of ``verbs``."""
    *most, last = verbs
    return CommandError(
        f"Cannot tell what to do: expected manage.py {command} {', '.join(most)} or {last}.", returncode=2
    )


def add_json(parser: ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="one JSON object per line, for machines")


def period(text: str) -> timedelta:
    """Parse ``90s``, ``10m``, ``2h``, ``1d``, or seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    if not (number.isascii() and number.isdecimal() and 0 < int(number) * UNITS[unit] <= 366 * 86_400):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 2h, got: {text!r}")
    return timedelta(seconds=int(number) * UNITS[unit])


def moment(text: str) -> datetime:
    """Parse a time for ``argparse``: ``2026-11-24``, ``2026-11-24T13:00Z``, or how long ago: ``24h``, ``2d``.

    Without a zone it is in that of the settings.
    """
    if text[-1:] in UNITS and text[:-1].isdecimal():
        return timezone.now() - period(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        rule = "expected a time such as 2026-11-24T13:00, or how long ago, such as 24h or 2d"
        raise argparse.ArgumentTypeError(f"{rule}, got: {text}") from None
    return timezone.make_aware(found) if timezone.is_naive(found) else found
