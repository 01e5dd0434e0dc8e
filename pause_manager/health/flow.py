"""Whether work is flowing, as the fleet, the pause queue and the workers show it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from operator import itemgetter

from django.db.models import CharField, Count, F, Func, Min, Value
from django.db.models.functions import Now

from pause_manager import times, workloads
from pause_manager.fleet import drain
from pause_manager.holds import fleet_state
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.models.clock import database_now
from pause_manager.nodes import members, serving
from pause_manager.pause_queue import stuck, totals, unserved
from pause_manager.pause_queue.totals import Waiting
from pause_manager.workloads import Finding

FORGOTTEN = timedelta(days=1)
"""An operator's hold without an end that is older may have been forgotten."""
NOTHING = Waiting(0, None)
LONG_WAIT_SECONDS = 900.0
"""What waits for room for longer is worth a look."""


def findings() -> Iterator[Finding]:
    """Facts about the whole fleet. A constant number of statements."""
    state = fleet_state.read()
    if not state.is_readable:
        yield _problem(
            "fleet_unreadable",
            "The state of the fleet switch cannot be read, so nothing new starts.",
            cause="the database refuses or times out",
            next_step="see /readyz",
        )
        return
    yield from _switch()
    work = drain.measure(state.mode)
    waiting = totals.waiting()
    yield from _workers(work.queued + sum(one.entries for one in waiting.values()))
    yield from _queue(waiting)
    yield from _holds()
    yield from _old_holds()
    if work.running:
        yield _good("in_progress", f"{_pieces(work.running)} in progress.")
    if work.stale_running:
        yield Finding(
            "flowing",
            "note",
            "lost_leases",
            f"{_pieces(work.stale_running)} with workers that were lost.",
            cause="a worker was killed, or its machine or network is gone",
            next_step="nothing: it is given to other workers when its lease has run out, unless the fleet is paused",
        )


def _switch() -> Iterator[Finding]:
    hold = Hold.objects.covering(["fleet"]).order_by("created_at").first()
    if hold is not None:
        yield Finding(
            "flowing",
            "held",
            "fleet_paused",
            f"The fleet is paused ({hold.get_mode_display().partition(':')[0]}) by {_who(hold.actor)}: {hold.reason}",
            cause="somebody paused it on purpose",
            next_step="manage.py fleet status; manage.py fleet resume --reason …",
            since=hold.created_at,
        )


def _workers(waiting: int) -> Iterator[Finding]:
    if not serving.is_any() and not workloads.members():
        level = "problem" if waiting else "note"
        yield Finding(
            "flowing",
            level,  # type: ignore[arg-type]
            "no_worker",
            f"No worker lives, and {_pieces(waiting)} waiting." if waiting else "No worker lives.",
            cause="workers were not started, have all died, or cannot reach the database",
            next_step="start workers, and look at their logs (a project with manage.py up: is it running?)",
        )
        return
    for queue in unserved.every():
        yield _problem(
            "queue_unserved",
            f"Work waits in the queue {queue}, and no live worker serves it.",
            cause="the workers of that queue are down, or its name is misspelt",
            next_step=f"start a worker with -Q {queue}, or reroute what waits: manage.py pause_queue --help",
        )
    workers = members.of_version(fleet_state.read().version)
    if workers.lost:
        names = ", ".join(str(one["name"]) for one in workers.lost[:5])
        yield Finding(
            "flowing",
            "note",
            "workers_silent",
            f"{len(workers.lost)} of {workers.total} workers are silent.",
            cause="they were killed, hang, or cannot reach the database",
            next_step="look at their hosts; what they had is given to others when its lease has run out",
            detail=names,
        )
    if workers.namesakes:
        yield Finding(
            "flowing",
            "note",
            "workers_share_a_name",
            f"Several workers at once are called {', '.join(workers.namesakes[:5])}.",
            cause="they were started with the same name",
            next_step="give each a name of its own: celery worker -n …",
        )


def _queue(waiting: dict[str, Waiting]) -> Iterator[Finding]:
    count, since = waiting.get(PauseQueueEntry.WaitsFor.CAPACITY, NOTHING)
    if count:
        age = (database_now() - since).total_seconds() if since else 0.0
        yield Finding(
            "flowing",
            "held",
            "waits_for_room",
            f"{_entries(count)} for room on a node, the oldest for {times.length(age)}.",
            cause="other processes, or our own work, use what it needs"
            + ("; or no node is large enough for it" if age > LONG_WAIT_SECONDS else ""),
            next_step="manage.py capacity shows who uses what; manage.py pause_queue shows why each waits",
            since=since,
        )
    count, _ = waiting.get(PauseQueueEntry.WaitsFor.HOLD, NOTHING)
    if count:
        yield Finding(
            "flowing",
            "held",
            "parked_by_holds",
            f"{_entries(count)} for a hold to be released.",
            cause="somebody holds their queue, or the fleet",
            next_step="manage.py hold list",
        )
    for problem, count in stuck.counts().items():
        if count:
            label = PauseQueueEntry.Problem(problem).label
            yield _problem(
                f"stuck_{problem}",
                f"{count:,} parked message{'' if count == 1 else 's'} nobody takes up: {label}.",
                cause="a task was renamed or removed, a message cannot be read, or its exchange is gone",
                next_step="manage.py pause_queue, then drop, rename or reroute them",
            )


def _holds() -> Iterator[Finding]:
    kind = Func(F("scope"), Value(":"), Value(1), function="split_part", output_field=CharField())
    held = Hold.objects.active().exclude(scope="fleet").exclude(kind=Hold.Kind.CAPACITY).order_by()
    found = list(held.values(what=kind).annotate(count=Count("scope", distinct=True), since=Min("created_at")))
    if found:
        parts = [_count(one["count"], one["what"], f"{one['what']}s") for one in sorted(found, key=itemgetter("what"))]
        total = sum(one["count"] for one in found)
        yield Finding(
            "flowing",
            "held",
            "held",
            f"{' and '.join(parts)} {'is' if total == 1 else 'are'} held.",
            cause="somebody holds them on purpose, or a question is open",
            next_step="manage.py hold list, or manage.py explain_run RUN",
            since=min(one["since"] for one in found),
        )


def _old_holds() -> Iterator[Finding]:
    old = Hold.objects.active().filter(
        kind=Hold.Kind.OPERATOR, expires_at__isnull=True, created_at__lt=Now() - FORGOTTEN
    )
    found = list(old.exclude(scope="fleet").order_by("created_at").values_list("scope", "created_at", "actor")[:100])
    if found:
        scope, since, actor = found[0]
        count = "100 or more holds are" if len(found) == 100 else _count(len(found), "hold is", "holds are")
        yield Finding(
            "flowing",
            "note",
            "old_holds",
            f"{count} older than a day and have no end.",
            cause="they may have been forgotten",
            next_step="manage.py hold list; release what nobody needs",
            since=since,
            detail=f"the oldest is on {scope}, by {_who(actor)}",
        )


def _problem(code: str, sentence: str, *, cause: str, next_step: str) -> Finding:
    return Finding("flowing", "problem", code, sentence, cause=cause, next_step=next_step)


def _good(code: str, sentence: str) -> Finding:
    return Finding("flowing", "good", code, sentence)


def _pieces(count: int) -> str:
    return _count(count, "piece of work is", "pieces of work are")


def _entries(count: int) -> str:
    return _count(count, "entry of the pause queue waits", "entries of the pause queue wait")


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _who(actor: str) -> str:
    return actor.removeprefix("user:")
