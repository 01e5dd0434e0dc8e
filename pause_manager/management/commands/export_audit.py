"""``manage.py export_audit``: the audit trail as a file."""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import Progress

from pause_manager.management.shell import Exit, ShellCommand, moment
from pause_manager.models import ControlEvent, ControlEventQuerySet
from pause_manager.observability import audit_export
from pause_manager.observability.audit_export import EQUAL, narrowed


class Command(ShellCommand):
    """Writes newest first, in constant memory. A file gets its name only once it is complete."""

    help = "Write the audit trail, newest first, as CSV or JSON lines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=moment, metavar="TIME", help="at or after: 2026-11-24T13:00, 24h, 2d")
        parser.add_argument("--until", type=moment, metavar="TIME", help="before this time")
        for name in EQUAL:
            parser.add_argument(f"--{name.replace('_', '-')}", help=f"only events of this {name.replace('_', ' ')}")
        parser.add_argument("--format", choices=sorted(audit_export.ENCODERS), default="jsonl", help="default: jsonl")
        parser.add_argument("--output", metavar="FILE", default="-", help="default: standard output")

    def carry_out(self, options: dict[str, Any]) -> Exit:
        format: str = options["format"]
        output: str = options["output"]
        asked = {name: options[name] for name in (*EQUAL, "since", "until") if options[name] is not None}
        events = narrowed(ControlEvent.objects.all(), asked)
        if output == "-":
            _write(events, format, sys.stdout.buffer)
            return Exit.OK
        try:
            written = _write_whole(events, format, Path(output))
        except OSError as error:
            raise CommandError(f"Cannot write {output}: {(error.strerror or str(error)).lower()}.") from error
        self.stderr.write(f"Wrote {written:,} events to {output}.", style_func=str)
        return Exit.OK


def _write_whole(events: ControlEventQuerySet, format: str, path: Path) -> int:
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            written = _write(events, format, file)
        os.replace(fresh, path)
        return written
    except BaseException:
        os.unlink(fresh)
        raise


def _write(events: ControlEventQuerySet, format: str, file: Any) -> int:
    if not sys.stderr.isatty():
        return _copy(events, format, file, lambda written: None)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("exporting events", total=events.count())
        return _copy(events, format, file, lambda written: progress.update(task, completed=written))


def _copy(events: ControlEventQuerySet, format: str, file: BinaryIO, tell: Callable[[int], None]) -> int:
    written = 0
    for piece, count in audit_export.encoded(events, format):
        file.write(piece)
        written += count
        tell(written)
    file.flush()
    return written
