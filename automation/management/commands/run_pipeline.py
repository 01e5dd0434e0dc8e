"""``manage.py run_pipeline``: create a run, start it and, if asked to, wait for its end."""

from __future__ import annotations

import argparse
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from automation import lifecycle, status
from automation.errors import InvalidInput, InvalidParams
from automation.inputs import Input, read_keywords
from automation.management import unfinished
from automation.management.commands.watch_run import follow
from automation.management.run_command import Exit, RunCommand, RunCommandError, find_run
from automation.models import AutomationRun, Site
from pause_manager.actor import Actor
from pause_manager.management.shell import period

SPOOL_BYTES = 16 << 20


class Command(RunCommand):
    """The input is a CSV file with a column ``keyword`` or one keyword a line; ``-`` is standard input."""

    help = "Create a run of a pipeline and start it."

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pipeline", help="slug of the pipeline, e.g. content or drill")
        parser.add_argument("--input", metavar="F", help="CSV file with a header, or one keyword a line; - is stdin")
        parser.add_argument("--site", default="default", help="slug of the site (default)")
        parser.add_argument("--param", action="append", default=[], metavar="K=V", help="parameter; may be repeated")
        parser.add_argument("--timeout", type=period, metavar="T", help="fail it after this working time: 90m, 2h")
        parser.add_argument("--force", action="store_true", help="start it whatever the capacity says")
        parser.add_argument("--wait", action="store_true", help="show progress until the run ends")
        parser.add_argument(
            "--unless-unfinished",
            action="store_true",
            help="go on with the same run if it is not finished",
        )
        parser.add_argument("--within-up", action="store_true", help=argparse.SUPPRESS)

    def run_command(self, **options: Any) -> Exit:
        site = Site.objects.filter(slug=options["site"]).first()
        if site is None:
            raise RunCommandError(f"Cannot find site {options['site']!r}.", Exit.NOT_FOUND, "not_found")
        if options["unless_unfinished"] and (run := self._unfinished(site, options)) is not None:
            return self._go_on_with(run, options)
        run, given = self._create(site, options)
        counts = {"duplicates": given.duplicates, "blank": given.blank, "encoding": given.encoding} if given else {}
        sentence = f"Run {run.pk} of {run.pipeline}: {run.total_items:,} items"
        if given and given.duplicates:
            sentence += f", {given.duplicates:,} duplicate{'s'[: given.duplicates > 1]} left out"
        self.tell(run, f"{sentence}.", as_json=options["json"], **counts)
        if options["wait"]:
            return follow(self, run, as_json=options["json"], is_within_up=options["within_up"])
        if not options["json"]:
            self.line(f"Watch it with: manage.py watch_run {run.pk}")
        return Exit.OK

    def _unfinished(self, site: Site, options: dict[str, Any]) -> AutomationRun | None:
        params = parsed_params(options["param"])
        if options["input"] in (None, "-"):
            return unfinished.like(options["pipeline"], site, params, None) if options["input"] is None else None
        with opened(options["input"]) as file:
            given = read_keywords(file, options["input"])
            return unfinished.like(options["pipeline"], site, params, given.items())

    def _go_on_with(self, run: AutomationRun, options: dict[str, Any]) -> Exit:
        run = find_run(str(run.pk))
        now = status.in_words(status.of(run))
        sentence = f"Run {run.pk} of the same input is not finished ({now}); going on with it (NEW=1 starts another)."
        if options["within_up"] and run.paused_at is not None:
            sentence += f" Resume it: manage.py resume_run {run.pk}"
        self.tell(run, sentence, as_json=options["json"])
        if options["wait"]:
            return follow(self, run, as_json=options["json"], is_within_up=options["within_up"])
        return Exit.OK

    def _create(self, site: Site, options: dict[str, Any]) -> tuple[AutomationRun, Input | None]:
        params = parsed_params(options["param"])
        actor = Actor.shell()
        timeout = options["timeout"].total_seconds() if options["timeout"] else None
        create = partial(
            lifecycle.create,
            options["pipeline"],
            site=site,
            actor=actor,
            params=params,
            timeout_seconds=timeout,
            is_forced=options["force"],
        )
        if options["input"] is None:
            run = create()
            return find_run(str(run.pk)), None
        with opened(options["input"]) as file:
            name = "standard input" if options["input"] == "-" else options["input"]
            given = read_keywords(file, name)
            run = create(items=given.items())
        return find_run(str(run.pk)), given


def parsed_params(pairs: Sequence[str]) -> dict[str, str]:
    """``["k=v"]`` as a dictionary; ``InvalidParams`` if one has no ``=`` or comes twice."""
    params: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidParams(f"--param: expected name=value, got: {pair!r}")
        if name in params:
            raise InvalidParams(f"--param: expected each name once, got {name!r} twice")
        params[name] = value
    return params


def opened(path: str) -> BinaryIO:
    """The file for reading and seeking; standard input is copied to a temporary file first."""
    if path == "-":
        spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  (the caller closes it)
        while chunk := sys.stdin.buffer.read(1 << 20):
            spool.write(chunk)
        return spool  # type: ignore[return-value]
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
