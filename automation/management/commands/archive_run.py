"""``manage.py archive_run``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run
from automation.retention import archive


class Command(RunCommand):
    """Writes the lines of ``archive.lines``."""

    help = "Write a run as JSON lines: the run, its stages, items, failures and events. Its files are not among them."

    def arguments(self, parser: ArgumentParser) -> None:
        super().arguments(parser)
        parser.add_argument("--output", required=True, metavar="FILE", help="a new file; - is standard output")

    def run_command(self, **options: Any) -> Exit:
        run = find_run(options["run"])
        is_stdout = options["output"] == "-"
        counts: dict[str, int] = {}
        with _standard_output() if is_stdout else _new_file(Path(options["output"])) as file:
            for line in archive.lines(run, counts):
                file.write(line)
        if not is_stdout:
            rows = ", ".join(f"{count:,} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())
            self.tell(run, f"Archived run {run.pk} to {options['output']}: {rows}.", as_json=options["json"], **counts)
        return Exit.OK


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears at ``path`` only when it is complete."""
    if path.exists():
        raise CommandRefused(f"Cannot write {path}: it exists already.", Exit.USAGE, "usage")
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandRefused(f"Cannot write {path}: {why}.", Exit.FAILED, "failed") from None
    finally:
        part.unlink(missing_ok=True)
