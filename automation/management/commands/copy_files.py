"""``manage.py copy_files``."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from automation.files import reading
from automation.files.storage import StorageAway
from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run


class Command(RunCommand):
    """Copies under the names that the stages gave, whatever the storage."""

    help = "Copy the files of a run out of the storage into a directory, as STAGE/NAME."

    def arguments(self, parser: ArgumentParser) -> None:
        super().arguments(parser)
        parser.add_argument("directory", type=Path, help="a new or empty directory")

    def run_command(self, **options: Any) -> Exit:
        run, root = find_run(options["run"]), options["directory"]
        files = size = 0
        try:
            if root.is_dir() and any(root.iterdir()):
                raise CommandRefused(f"Cannot copy to {root}: it is not empty.", Exit.USAGE, "usage")
            root.mkdir(parents=True, exist_ok=True)
            for name, file in reading.every(run.pk):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as copy:
                    copy.writelines(file.read())
                files, size = files + 1, size + file.size
        except (OSError, StorageAway) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise CommandRefused(f"Cannot copy the files of run {run.pk}: {why}", Exit.FAILED, "failed") from None
        count = f"{files:,} {'file' if files == 1 else 'files'}"
        told = f"Copied {count}, {size:,} bytes, of run {run.pk} to {root}."
        self.tell(run, told, as_json=options["json"], files=files, bytes=size)
        return Exit.OK
