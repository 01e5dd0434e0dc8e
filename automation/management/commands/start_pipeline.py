"""``manage.py start_pipeline``: write an app with a first pipeline, and print the next steps."""

from __future__ import annotations

import keyword
import os
import shlex
import sys
from argparse import ArgumentParser
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.core.management.templates import TemplateCommand

from automation.conf import SLUG
from automation.errors import PipelineError
from automation.management.run_command import Exit, RunCommand
from automation.pipeline import all_pipelines

TEMPLATE = Path(__file__).resolve().parents[1] / "pipeline_template"

NEXT = """\
Wrote {folder}: pipelines.py (two stages), test_{name}.py, items.csv.

Let Slackwater find it, in every shell that runs one of its commands:
  export PYTHONPATH={paths} SLACKWATER_APPS={apps}
Try it, without servers:
  {manage} try_pipeline {name} --input {items}
Test it:
  {python} -m pytest {folder}
Run it (restart a system that is already running):
  {manage} up
  {manage} run_pipeline {name} --input {items}
"""


class Command(RunCommand):
    """Creates the folder atomically and never overwrites one."""

    help = "Write a first pipeline of your own: a package with two stages, a test and some items."
    requires_system_checks = ()
    epilog = "exit codes:\n  0  written\n  2  the name or the folder cannot be used; nothing was changed\n"

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the package and of its pipeline, e.g. shop")
        parser.add_argument("--directory", metavar="DIR", default=".", help="where to create it (default: here)")

    def run_command(self, **options: Any) -> Exit:
        name, parent = options["name"], Path(options["directory"]).resolve()
        if not parent.is_dir():
            raise PipelineError(f"Cannot write into {parent}: it is not a folder.")
        if (parent / name).exists():
            raise PipelineError(f"Cannot write {parent / name}: it exists. Nothing was changed.")
        _check_name(name)
        _write(name, parent)
        self._tell(name, parent, as_json=options["json"])
        return Exit.OK

    def _tell(self, name: str, parent: Path, *, as_json: bool) -> None:
        folder = parent / name
        if as_json:
            self.line({"folder": str(folder), "pipeline": name, "app": name})
            return
        manage = Path(sys.argv[0]).resolve()
        before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        paths = list(dict.fromkeys([str(parent), str(manage.parent), *before]))
        apps = [app for app in os.environ.get("SLACKWATER_APPS", "").replace(" ", "").split(",") if app]
        shown = folder if parent != Path.cwd() else Path(name)
        self.line(
            NEXT.format(
                folder=shlex.quote(f"{shown}/"),
                name=name,
                paths=shlex.quote(os.pathsep.join(paths)),
                apps=shlex.quote(",".join(dict.fromkeys([*apps, name]))),
                manage=f"{shlex.quote(sys.executable)} {shlex.quote(str(manage))}",
                python=shlex.quote(sys.executable),
                items=shlex.quote(str(shown / "items.csv")),
            ).rstrip()
        )


def _write(name: str, parent: Path) -> None:
    # As startapp does, in a temporary folder: the package appears complete.
    with TemporaryDirectory(dir=parent, prefix=f".{name}-") as aside:
        with chdir(aside):
            TemplateCommand().handle("app", name, template=str(TEMPLATE), extensions=["py"], files=[], verbosity=0)
        try:
            (Path(aside) / name).rename(parent / name)
        except OSError as error:
            raise PipelineError(f"Cannot write {parent / name}: {(error.strerror or str(error)).lower()}.") from None


def _check_name(name: str) -> None:
    if keyword.iskeyword(name):
        raise PipelineError(f"Cannot use the name {name!r}: it is a Python keyword.")
    if not SLUG.fullmatch(name) or not name.isidentifier():
        raise PipelineError(
            f"Cannot use the name {name!r}: expected lower-case letters, digits and _, a letter first, 50 at most."
        )
    if find_spec(name) is not None:
        raise PipelineError(f"Cannot use the name {name!r}: a Python module of that name exists.")
    taken = {slug for pipeline in all_pipelines() for slug in (pipeline.slug, *pipeline.formerly)}
    if name in taken:
        raise PipelineError(f"Cannot use the name {name!r}: a pipeline of that name exists.")
