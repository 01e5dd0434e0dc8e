"""What the commands of this app share: who acts, how errors are told, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import IntEnum
from typing import Any

import orjson
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections

from pause_manager import database
from pause_manager.errors import FleetRefused, PauseManagerError
from pause_manager.observability.actor import Actor

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Exit(IntEnum):
    """Exit codes: each means one thing, whatever the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    CANCELLED = 5
    LOST_LEASES = 6
    TIME_IS_UP = 7
    WAITS = 8
    """Done, and something else still keeps it."""
    INTERRUPTED = 130


class ControlCommand(BaseCommand, ABC):
    """A command with verbs that acts on holds: prints results to stdout, refusals to stderr with an exit code."""

    epilog = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs |= {"epilog": self.epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    @abstractmethod
    def carry_out(self, options: dict[str, Any]) -> Exit:
        """Do the work; the exit code."""

    def handle(self, **options: Any) -> None:
        try:
            with quiet(options["verbosity"]):
                code = self.carry_out(options)
        except FleetRefused as error:
            raise _Refusal(str(error), Exit.REFUSED, error.code) from error
        except PauseManagerError as error:
            code = Exit.NOT_FOUND if error.code == "not_found" else Exit.USAGE
            raise _Refusal(str(error), code, error.code) from error
        except ImproperlyConfigured as error:
            raise _Refusal(str(error), Exit.FAILED, "improperly_configured") from error
        except DatabaseError as error:
            raise _Refusal(database.sentence(error), Exit.FAILED, "database_unavailable") from error
        except KeyboardInterrupt:
            raise _Refusal("interrupted", Exit.INTERRUPTED, "interrupted") from None
        if code:
            sys.exit(code)

    def run_from_argv(self, argv: list[str]) -> None:
        self._called_from_command_line = True
        options = vars(self.create_parser(argv[0], argv[1]).parse_args(argv[2:]))
        options.pop("args", None)
        try:
            self.execute(**options)
        except CommandError as error:
            code = error.code if isinstance(error, _Refusal) else "failed"
            as_json = options.get("json", False)
            said = orjson.dumps({"error": code, "message": str(error)}).decode() if as_json else str(error)
            self.stderr.write(said, style_func=None if sys.stderr.isatty() else str)
            sys.exit(error.returncode)
        finally:
            connections.close_all()

    def line(self, what: str | dict[str, Any]) -> None:
        """Print a sentence, or an object as JSON."""
        self.stdout.write(what if isinstance(what, str) else orjson.dumps(what, default=str).decode())
        self.stdout.flush()


class _Refusal(CommandError):
    def __init__(self, message: str, exit_code: Exit, code: str) -> None:
        super().__init__(message, returncode=exit_code)
        self.code = code


@contextmanager
def quiet(verbosity: int) -> Iterator[None]:
    """The log lines that a service writes are no part of a command's output; ``-v 2`` shows them."""
    before = logging.root.manager.disable
    if verbosity < 2:
        logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def no_verb(command: str, *verbs: str) -> CommandError:
    """What is raised where none of ``verbs`` is given."""
    *most, last = verbs
    return CommandError(
        f"Cannot tell what to do: expected manage.py {command} {', '.join(most)} or {last}.", returncode=2
    )


def add_json(parser: ArgumentParser) -> None:
    """``--json``, as every command has it."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")


def period(text: str) -> timedelta:
    """``90s``, ``10m``, ``2h``, ``1d``, or seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    if not (number.isascii() and number.isdecimal() and 0 < int(number) * UNITS[unit] <= 366 * 86_400):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 2h, got: {text!r}")
    return timedelta(seconds=int(number) * UNITS[unit])


def shell_actor() -> Actor:
    """Whoever is logged in on this machine."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Actor(f"shell:{name}", "cli")
