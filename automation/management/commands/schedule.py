"""``manage.py schedule``: runs that start by the clock."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime
from typing import Any

from automation.errors import InvalidInput, ScheduleRefused, SiteBusy
from automation.management.commands.run_pipeline import add_pace, parsed_params
from automation.management.run_command import CommandRefused, Exit, RunCommand, facts_of, find_run
from automation.models import Schedule, Site
from automation.pipeline import get_pipeline, pacing, run_input
from automation.schedules import definitions, report, starting
from pause_manager import times
from pause_manager.actor import Actor
from pause_manager.management.rule_arguments import add_rule, rule_of
from pause_manager.management.shell import add_json, moment, no_verb, period
from pause_manager.models.clock import database_now

NAME = "SITE/NAME of a schedule, or its id"


class Command(RunCommand):
    """Calls ``schedules.definitions`` and ``schedules.starting``."""

    help = "Start runs by the clock: list, add, change, pause, skip, or run a schedule now."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage or input; the sentence names what is allowed
  3    refused: not possible now; nothing was changed
  4    no such schedule or site
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        listed = verbs.add_parser("list", help="list schedules, with what comes next")
        listed.add_argument("--site", default="", help="slug of a site")
        add = verbs.add_parser("add", help="add a schedule")
        add.add_argument("schedule", metavar="SITE/NAME", help="slug of the site, and a name for the schedule")
        add.add_argument("pipeline", help="slug of the pipeline")
        change = verbs.add_parser("change", help="change a schedule: what is not given stays")
        show = verbs.add_parser("show", help="show a schedule, its next times and its last occurrences")
        pause = verbs.add_parser("pause", help="pause a schedule, or with --due one occurrence")
        pause.add_argument("--for", type=period, dest="length", metavar="T", help="it resumes after this time: 2d")
        resume = verbs.add_parser(
            "resume", help="resume a schedule, or with --due an occurrence that was skipped or paused"
        )
        skip = verbs.add_parser("skip", help="skip the next occurrence, or with --due another one")
        run_now = verbs.add_parser("run-now", help="start the run of a schedule now")
        delete = verbs.add_parser("delete", help="delete a schedule; its runs stay")
        for verb in (change, show, pause, resume, skip, run_now, delete):
            verb.add_argument("schedule", metavar="SCHEDULE", help=NAME)
        for verb in (add, change):
            _add_fields(verb)
        for verb in (pause, resume, skip):
            verb.add_argument("--due", type=moment, metavar="TIME", help="one occurrence, named by its time")
        for verb in (resume, run_now):
            verb.add_argument(
                "--queue", action="store_true", help="wait behind an unfinished run of the site instead of refusing"
            )
        for verb in (add, change, pause, resume, skip, run_now, delete):
            verb.add_argument("--reason", default="", help="why, for the audit trail")
        for verb in (listed, add, change, show, pause, resume, skip, run_now, delete):
            add_json(verb)

    def run_command(self, **options: Any) -> Exit:
        verbs: dict[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list,
            "add": self._add,
            "change": self._change,
            "show": self._show,
            "pause": self._pause,
            "resume": self._resume,
            "skip": self._skip,
            "run-now": self._run_now,
            "delete": self._delete,
        }
        if options["verb"] is None:
            raise no_verb("schedule", *verbs)
        verbs[options["verb"]](options)
        return Exit.OK

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, ScheduleRefused | SiteBusy):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        return super().refusal(error)

    def _list(self, options: dict[str, Any]) -> None:
        rows = Schedule.objects.select_related("site__account").order_by("site__slug", "name")
        if options["site"]:
            rows = rows.filter(site=_site(options["site"]))
        for told in report.shown(list(rows), with_payloads=True):
            self.line(told if options["json"] else _sentence(told))

    def _add(self, options: dict[str, Any]) -> None:
        site, slash, name = options["schedule"].partition("/")
        if not slash:
            raise CommandRefused(f"Cannot add {site!r}: expected SITE/NAME.", Exit.USAGE, "usage")
        fields = {"name": name, "pipeline": options["pipeline"], **_fields(options, options["pipeline"])}
        schedule = definitions.create(_site(site), fields, actor=Actor.shell(), reason=options["reason"])
        self._tell(schedule, options)

    def _change(self, options: dict[str, Any]) -> None:
        schedule = _find(options["schedule"])
        fields = _fields(options, schedule.pipeline)
        if not fields:
            raise CommandRefused("Cannot change the schedule: expected something to change.", Exit.USAGE, "usage")
        changed = definitions.change(schedule.pk, fields, actor=Actor.shell(), reason=options["reason"])
        self._tell(changed, options)

    def _show(self, options: dict[str, Any]) -> None:
        self._tell(_find(options["schedule"]), options, in_full=True)

    def _pause(self, options: dict[str, Any]) -> None:
        schedule, who = _find(options["schedule"]), {"actor": Actor.shell(), "reason": options["reason"]}
        if options["due"] and options["length"]:
            raise CommandRefused("Cannot pause: expected --due or --for, got both.", Exit.USAGE, "usage")
        if options["due"]:
            definitions.pause_occurrence(schedule.pk, options["due"], **who)
        else:
            until = database_now() + options["length"] if options["length"] else None
            definitions.pause(schedule.pk, until=until, **who)
        self._tell(schedule, options)

    def _resume(self, options: dict[str, Any]) -> None:
        schedule, who = _find(options["schedule"]), {"actor": Actor.shell(), "reason": options["reason"]}
        if not options["due"]:
            definitions.resume(schedule.pk, **who)
        elif run := definitions.resume_occurrence(schedule.pk, options["due"], queued=options["queue"], **who):
            self._tell_run(run.pk, options)
            return
        self._tell(schedule, options)

    def _skip(self, options: dict[str, Any]) -> None:
        schedule = _find(options["schedule"])
        definitions.skip(schedule.pk, options["due"], actor=Actor.shell(), reason=options["reason"])
        self._tell(schedule, options)

    def _run_now(self, options: dict[str, Any]) -> None:
        schedule, who = _find(options["schedule"]), {"actor": Actor.shell(), "reason": options["reason"]}
        self._tell_run(starting.run_now(schedule.pk, queued=options["queue"], **who).pk, options)

    def _delete(self, options: dict[str, Any]) -> None:
        schedule = _find(options["schedule"])
        definitions.delete(schedule.pk, actor=Actor.shell(), reason=options["reason"])
        facts = {"schedule": str(schedule), "deleted": True}
        self.line(facts if options["json"] else f"Deleted schedule {schedule}; its runs stay.")

    def _tell_run(self, run_id: object, options: dict[str, Any]) -> None:
        run = find_run(str(run_id))
        sentence = f"Run {run.pk} of {run.pipeline}: {run.total_items:,} items."
        self.line(facts_of(run) if options["json"] else sentence)

    def _tell(self, schedule: Schedule, options: dict[str, Any], *, in_full: bool = False) -> None:
        [told] = report.shown([_find(str(schedule.pk))], with_payloads=True)
        if options["json"]:
            self.line(told)
            return
        self.line(_sentence(told))
        if told["pacing"]:
            self.line(f"  pacing {', '.join(pacing.words(told['pacing']))}")
        for one in told["next"]:
            said = f" ({one['outcome']}{': ' + one['reason'] if one['reason'] else ''})" if one["outcome"] else ""
            self.line(f"  comes {one['local']}{said}")
        for row in schedule.occurrences.filter(due_at__lte=database_now())[:10] if in_full else ():
            why = f": {row.reason}" if row.reason else ""
            run = f" run {row.run_id}" if row.run_id else ""
            self.line(f"  {row.outcome} {report.local(row.due_at, schedule.rule.zone)}{run} by {row.actor}{why}")


def _add_fields(parser: ArgumentParser) -> None:
    add_rule(parser)
    parser.add_argument("--param", action="append", default=[], metavar="K=V", help="parameter; may be repeated")
    add_pace(parser)
    parser.add_argument("--input", metavar="F", help="file with the input of every run, read now, as the pipeline does")
    parser.add_argument("--priority", type=int, choices=range(1, 6), help="of its runs: 1 (first) to 5")
    parser.add_argument("--catch-up", choices=Schedule.CatchUp.values, help="which missed occurrences start (last)")
    parser.add_argument("--expires", type=_later, metavar="TIME", help="no occurrence after this: 2027-01-31, or 30d")
    parser.add_argument(
        "--min-hours-between",
        type=float,
        metavar="H",
        help="skip an occurrence if the pipeline ran less than H hours before",
    )
    parser.add_argument(
        "--beside-unfinished", action="store_true", default=None, help="start beside an unfinished run of the site"
    )
    state = parser.add_mutually_exclusive_group()
    state.add_argument("--enable", dest="is_enabled", action="store_true", default=None, help="switch it on")
    state.add_argument("--disable", dest="is_enabled", action="store_false", default=None, help="switch it off")


def _fields(options: dict[str, Any], pipeline: str) -> dict[str, Any]:
    """What of ``definitions.FIELDS`` the options give."""
    fields = rule_of(options)
    for name in ("priority", "catch_up", "min_hours_between", "is_enabled"):
        if options[name] is not None:
            fields[name] = options[name]
    if options["expires"] is not None:
        fields["expires_at"] = options["expires"]
    if options["beside_unfinished"] is not None:
        fields["skip_if_active"] = not options["beside_unfinished"]
    if options["param"]:
        fields["params"] = parsed_params(options["param"])
    if options["pace"]:
        fields["pacing"] = pacing.of_options(options["pace"])
    if options["input"]:
        fields["items"] = _read(pipeline, options["input"])
    return fields


def _read(pipeline_slug: str, path: str) -> list[dict[str, Any]]:
    pipeline = get_pipeline(pipeline_slug)
    with run_input.opened(path) as file:
        found = run_input.of_file(pipeline, file, run_input.name_of(path))
        if found.count > definitions.most_items():
            rule = f"expected at most {definitions.most_items():,} items for a schedule"
            raise InvalidInput(f"Cannot read {path}: {rule}, got {found.count:,}.")
        return list(found)


def _later(text: str) -> datetime:
    """A time for ``argparse``, or how long from now."""
    if text[-1:] == "d" and text[:-1].isdecimal():
        return database_now() + period(text)
    return moment(text)


def _site(slug: str) -> Site:
    site = Site.objects.select_related("account").filter(slug=slug).first()
    if site is None:
        raise CommandRefused(f"Cannot find site {slug!r}: it does not exist.", Exit.NOT_FOUND, "not_found")
    return site


def _find(name: str) -> Schedule:
    rows = Schedule.objects.select_related("site__account")
    site, slash, rest = name.partition("/")
    if slash:
        rows = rows.filter(site__slug=site, name=rest)
    elif name.isascii() and name.isdecimal() and len(name) < 19:
        rows = rows.filter(pk=int(name))
    else:
        raise CommandRefused(f"Cannot find schedule {name!r}: expected {NAME}.", Exit.USAGE, "usage")
    found = rows.first()
    if found is None:
        raise CommandRefused(f"Cannot find schedule {name!r}: it does not exist.", Exit.NOT_FOUND, "not_found")
    return found


def _sentence(told: dict[str, Any]) -> str:
    state = told["state"].replace("_", " ")
    if told["state"] == "paused":
        until = f" until {times.written(told['paused_until'])}" if told["paused_until"] else ""
        why = f": {told['pause_reason']}" if told["pause_reason"] else ""
        state = f"paused by {told['paused_by']}{until}{why}"
    comes = f"; next {told['next'][0]['local']}" if told["next"] else ""
    return f"{told['site']}/{told['name']} (id {told['id']}): {told['pipeline']}, {told['in_words']}; {state}{comes}"
