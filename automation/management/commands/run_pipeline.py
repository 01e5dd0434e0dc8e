"""``manage.py run_pipeline``: create a run, start it and, with --wait, wait for its end."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from automation import gate
from automation.errors import InvalidParams
from automation.inputs import Input
from automation.management import repeated_run
from automation.management.commands.watch_run import follow
from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run
from automation.models import AutomationRun, Site
from automation.pipeline import get_pipeline, pacing, run_input
from automation.reports import status
from automation.runs import creation
from pause_manager.actor import Actor
from pause_manager.management.shell import period

LONGEST_SHOWN = 100


class Command(RunCommand):
    """Calls ``creation.create`` with the input as the pipeline reads it; ``-`` is standard input."""

    help = "Create a run of a pipeline and start it."

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pipeline", help="slug of the pipeline, e.g. content or drill")
        parser.add_argument(
            "--input",
            metavar="F",
            help="CSV, TSV, JSON, JSON lines or Excel, or a gzip or zip of one, as the pipeline reads it; - is stdin",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be read and left out without creating a run"
        )
        parser.add_argument("--site", default="default", help="slug of the site (default)")
        parser.add_argument("--param", action="append", default=[], metavar="K=V", help="parameter; may be repeated")
        add_pace(parser)
        parser.add_argument("--timeout", type=period, metavar="T", help="fail it after this much working time: 90m, 2h")
        parser.add_argument("--force", action="store_true", help="start it despite capacity")
        parser.add_argument("--priority", type=int, default=3, metavar="P", help="1 (first) to 5; default: 3")
        parser.add_argument(
            "--after", action="append", default=[], metavar="RUN", help="start it after this run; may be repeated"
        )
        parser.add_argument("--wait", action="store_true", help="show progress until the run ends")
        parser.add_argument(
            "--unless-unfinished",
            action="store_true",
            help="continue the same run if it is unfinished",
        )
        parser.add_argument("--within-up", action="store_true", help=argparse.SUPPRESS)

    def run_command(self, **options: Any) -> Exit:
        pipeline = get_pipeline(options["pipeline"])
        params = pipeline.clean_params(parsed_params(options["param"]))
        pace = pacing.clean(pipeline, pacing.of_options(options["pace"]))
        run_input.check_need(pipeline, is_given=options["input"] is not None)
        if options["dry_run"]:
            with _read(options) as given:
                return self._show(options, given)
        site = Site.objects.filter(slug=options["site"]).first()
        if site is None:
            raise CommandRefused(f"Cannot find site {options['site']!r}.", Exit.NOT_FOUND, "not_found")
        timeout = options["timeout"].total_seconds() if options["timeout"] else None
        with _read(options) as given:
            if (
                options["unless_unfinished"]
                and (same := repeated_run.find(pipeline.slug, site, params, given)) is not None
            ):
                return self._continue(same, options)
            created = creation.create(
                pipeline.slug,
                site=site,
                actor=Actor.shell(),
                params=params,
                pace=pace,
                items=given,
                timeout_seconds=timeout,
                is_forced=options["force"],
                priority=options["priority"],
                after=[find_run(name).pk for name in options["after"]],
            )
        run = find_run(str(created.pk))
        counts: dict[str, Any] = {}
        sentence = f"Run {run.pk} of {run.pipeline}: {run.total_items:,} items"
        if given:
            counts = {"duplicates": given.duplicates, "blank": given.blank, "encoding": given.encoding}
            counts["input"] = given.report.details()
            sentence += "".join(f", {one} left out" for one in given.report.left_out)
        self.tell(run, f"{sentence}.", as_json=options["json"], **counts)
        if given and not options["json"]:
            for warning in given.report.warnings:
                self.line(f"Warning: {warning}")
        kept = [] if options["json"] or run.started_at else [one for one in gate.explain(run) if one.keeps]
        if kept:
            self.line(kept[0].sentence)
        if options["wait"]:
            return follow(self, run, as_json=options["json"], is_within_up=options["within_up"])
        if not options["json"]:
            self.line(f"Watch it with: manage.py watch_run {run.pk}")
        return Exit.OK

    def _continue(self, run: AutomationRun, options: dict[str, Any]) -> Exit:
        run = find_run(str(run.pk))
        now = status.in_words(status.of(run))
        sentence = f"Run {run.pk} of the same input is unfinished ({now}); continuing it (NEW=1 starts another)."
        if options["within_up"] and run.paused_at is not None:
            sentence += f" Resume it: manage.py resume_run {run.pk}"
        self.tell(run, sentence, as_json=options["json"])
        if options["wait"]:
            return follow(self, run, as_json=options["json"], is_within_up=options["within_up"])
        return Exit.OK

    def _show(self, options: dict[str, Any], given: Input | None) -> Exit:
        """Show the input from which a run would be created."""
        if options["json"]:
            shown = given.report.details() | {"first_items": list(given.report.first_items)} if given else None
            self.line({"dry_run": True, "pipeline": options["pipeline"], "input": shown})
        elif given is None:
            self.line(f"Pipeline {options['pipeline']} makes its own items. Nothing was created.")
        else:
            report = given.report
            self.line(f"{report.name}: {report.form()}")
            for item in report.first_items:
                text = ", ".join(f"{name}={value!r}" for name, value in item.items())
                self.line(f"  {text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + '…'}")
            if report.count > len(report.first_items):
                self.line(f"  … and {report.count - len(report.first_items):,} more")
            for sentence in report.sentences():
                self.line(sentence)
            self.line(f"{report.count:,} {'item' if report.count == 1 else 'items'}. Nothing was created.")
        return Exit.OK


def add_pace(parser: ArgumentParser) -> None:
    """``--pace``: batches, delays and limits."""
    parser.add_argument(
        "--pace",
        action="append",
        default=[],
        metavar="[STAGE.]K=V",
        help="batches, delays and limits, may be repeated: batch_size, batch_delay_seconds, stage_delay_seconds, "
        "max_items; of all stages, or of one (ideas.max_items=100); none: as the stages declare",
    )


@contextmanager
def _read(options: dict[str, Any]) -> Iterator[Input | None]:
    """Yield the input, if any; its items can be read until the block ends."""
    if options["input"] is None:
        yield None
        return
    with run_input.opened(options["input"]) as file:
        yield run_input.of_file(get_pipeline(options["pipeline"]), file, run_input.name_of(options["input"]))


def parsed_params(pairs: Sequence[str]) -> dict[str, str]:
    """Convert ``["k=v"]`` to a dictionary; raises ``InvalidParams`` if one has no ``=`` or is repeated."""
    params: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidParams(f"--param: expected name=value, got: {pair!r}")
        if name in params:
            raise InvalidParams(f"--param: expected each name once, got {name!r} twice")
        params[name] = value
    return params
