"""``manage.py lane``: lanes, their places, and who waits in them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation.errors import MoveRefused
from automation.management.run_command import CommandRefused, Exit, RunCommand, find_run
from automation.models import AutomationRun, Lane, Site
from automation.models.lanes import MOST_WIDTH
from automation.reports import lane_queue
from automation.runs import lane_moves, lanes, run_names
from pause_manager import holds, times
from pause_manager.actor import Actor
from pause_manager.management.shell import add_json, no_verb
from pause_manager.models import Hold

VERBS = ("list", "show", "width", "policy", "freeze", "unfreeze", "move")


class Command(RunCommand):
    """Calls ``runs.lanes``, ``runs.lane_moves`` and ``holds``."""

    help = "Show the lanes in which runs wait for each other, change their width and policy, freeze them, move runs."
    epilog = """\
exit codes:
  0    done
  1    an unexpected error, such as no database
  2    wrong usage, or a value that is not allowed
  3    refused: the run does not wait, or would come before one that it waits for; the lane is frozen, or is not
  4    no such lane or run
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        verbs.add_parser("list", help="list lanes with their width, policy and counts")
        show = verbs.add_parser("show", help="show who holds the places of a lane, who waits and why")
        show.add_argument(
            "--runs",
            type=int,
            default=20,
            metavar="N",
            help="list at most that many with a place, and that many that wait (default: 20)",
        )
        width = verbs.add_parser("width", help=f"set how many runs of a lane are active at a time: 1 to {MOST_WIDTH:,}")
        policy = verbs.add_parser("policy", help="say whether a paused run keeps its place (strict)")
        freeze = verbs.add_parser("freeze", help="stop all work in a lane until it is unfrozen")
        unfreeze = verbs.add_parser("unfreeze", help="lift the freeze of a lane")
        for verb in (show, width, policy, freeze, unfreeze):
            verb.add_argument("lane", metavar="LANE", help="slug of its site")
        width.add_argument("width", type=int, metavar="N", help="number of runs")
        policy.add_argument("policy", choices=Lane.Policy.values)
        move = verbs.add_parser("move", help="move a run that waits, or change the priority of a run")
        move.add_argument("run", metavar="RUN", help=run_names.RULE)
        where = move.add_mutually_exclusive_group(required=True)
        where.add_argument("--front", action="store_true", help="next in its lane")
        where.add_argument("--back", action="store_true", help="last of those that wait now")
        where.add_argument("--before", metavar="RUN", help="just before this run, with its priority")
        where.add_argument("--priority", type=int, metavar="P", help="1 (first) to 5")
        for verb in (width, policy, unfreeze, move):
            verb.add_argument("--reason", default="", help="why, for the audit trail")
        freeze.add_argument("--reason", required=True, help="why, for the audit trail and for those who wait")
        for verb in verbs.choices.values():
            add_json(verb)

    def run_command(self, **options: Any) -> Exit:
        if options["verb"] is None:
            raise no_verb("lane", *VERBS)
        getattr(self, f"_{options['verb']}")(options)
        return Exit.OK

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, MoveRefused):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        return super().refusal(error)

    def _list(self, options: dict[str, Any]) -> None:
        for lane in Lane.objects.order_by("name"):
            queue = lane_queue.counts(lane)
            if options["json"]:
                self.line({"lane": lane.name, "policy": lane.policy, "width": lane.width, **queue._asdict()})
                continue
            frozen = "  FROZEN" if queue.frozen else ""
            self.line(
                f"{lane.name}  {lane.policy}, width {lane.width}: {queue.active} active, {queue.waiting} waiting, "
                f"{queue.paused} paused{frozen}"
            )

    def _show(self, options: dict[str, Any]) -> None:
        lane = find_lane(options["lane"])
        queue = lane_queue.of(lane, at_most=max(1, options["runs"]))
        if options["json"]:
            self.line(
                {
                    "lane": lane.name,
                    "policy": lane.policy,
                    "width": lane.width,
                    "active": [str(run.pk) for run in queue.active],
                    "waiting": [
                        {
                            "run": str(one.run.pk),
                            "position": one.position,
                            "priority": one.run.priority,
                            "reasons": [reason.as_dict() for reason in one.reasons],
                        }
                        for one in queue.waiting
                    ],
                    "waiting_count": queue.waiting_count,
                    "paused": [str(run.pk) for run in queue.paused],
                    "paused_count": queue.paused_count,
                    "frozen": queue.freeze is not None,
                    "frozen_reason": queue.freeze.reason if queue.freeze else None,
                    "frozen_at": queue.freeze.created_at.isoformat() if queue.freeze else None,
                }
            )
            return
        self.line(f"{lane.name}: {lane.policy}, width {lane.width}")
        if queue.freeze is not None:
            since = times.written(queue.freeze.created_at)
            self.line(f"frozen since {since} by {queue.freeze.actor}: {queue.freeze.reason or 'no reason given'}")
        for run in queue.active:
            self.line(f"active   {_named(run)}{', paused' if run.paused_at else ''}")
        for one in queue.waiting:
            why = one.reasons[0].sentence if one.reasons else "It is about to start."
            self.line(f"{one.position:>6}.  {_named(one.run)}, priority {one.run.priority}: {why}")
        if (more := queue.waiting_count - len(queue.waiting)) > 0:
            self.line(f"… and {more:,} more that wait (--runs).")
        for run in queue.paused:
            self.line(f"paused   {_named(run)}{', keeps its place' if run.lane_seat_at else ''}")

    def _width(self, options: dict[str, Any]) -> None:
        self._change(options, width=options["width"])

    def _policy(self, options: dict[str, Any]) -> None:
        self._change(options, policy=options["policy"])

    def _change(self, options: dict[str, Any], **changes: Any) -> None:
        name = find_lane(options["lane"]).name
        lane, started = lanes.change(name, actor=Actor.shell(), reason=options["reason"], **changes)
        told = {"lane": lane.name, "policy": lane.policy, "width": lane.width, "started": started}
        runs = "1 run" if started == 1 else f"{started} runs"
        sentence = f"Lane {lane.name} is {lane.policy} with width {lane.width}; {runs} got a place by it."
        self.line(told if options["json"] else sentence)

    def _freeze(self, options: dict[str, Any]) -> None:
        lane = find_lane(options["lane"])
        placed = holds.place(
            [lane.scope], kind=Hold.Kind.FREEZE, actor=Actor.shell(), reason=options["reason"], mode=Hold.Mode.QUIESCE
        )
        self._tell_of_freeze(lane, bool(placed), "is frozen", "is frozen already", options)

    def _unfreeze(self, options: dict[str, Any]) -> None:
        lane = find_lane(options["lane"])
        released = holds.release([lane.scope], kind=Hold.Kind.FREEZE, actor=Actor.shell(), reason=options["reason"])
        self._tell_of_freeze(lane, bool(released), "is not frozen any more", "is not frozen", options)

    def _tell_of_freeze(self, lane: Lane, is_done: bool, done: str, fact: str, options: dict[str, Any]) -> None:
        if not is_done:
            raise CommandRefused(f"Cannot {options['verb']} lane {lane.name}: it {fact}.", Exit.REFUSED, "lane_refused")
        told = {"lane": lane.name, "frozen": options["verb"] == "freeze"}
        self.line(told if options["json"] else f"Lane {lane.name} {done}.")

    def _move(self, options: dict[str, Any]) -> None:
        run = find_run(options["run"])
        by = {"actor": Actor.shell(), "reason": options["reason"]}
        if options["front"]:
            moved = lane_moves.to_front(run.pk, **by)
        elif options["back"]:
            moved = lane_moves.to_back(run.pk, **by)
        elif options["before"] is not None:
            moved = lane_moves.before(run.pk, find_run(options["before"]).pk, **by)
        else:
            moved = lane_moves.set_priority(run.pk, options["priority"], **by)
        more = {"lane": run.lane, "position": moved.position, "priority": moved.run.priority}
        self.tell(moved.run, moved.sentence, as_json=options["json"], **more)


def find_lane(name: str) -> Lane:
    """The lane of that name, with its defaults if it has no row; refuses one that no site and no run has."""
    lane = Lane.objects.filter(name=name).first()
    if lane is not None:
        return lane
    if not Site.objects.filter(slug=name).exists():
        known = list(Lane.objects.order_by("name").values_list("name", flat=True)[:10])
        raise CommandRefused(
            f"Cannot find lane {name}: expected the slug of a site, such as {', '.join(known) or 'none yet'}.",
            Exit.NOT_FOUND,
            "not_found",
        )
    return Lane(name=name)


def _named(run: AutomationRun) -> str:
    return f"{run_names.short(run.pk)} ({run.pipeline}, {run.lifecycle})"
