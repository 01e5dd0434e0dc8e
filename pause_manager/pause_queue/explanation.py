"""Why an entry of the pause queue waits: the holds on it, want of room, its time, or what is wrong with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection

from pause_manager import conf, scopes, times
from pause_manager.actor import SYSTEM
from pause_manager.holds import wording
from pause_manager.models import Hold, PauseQueueEntry, WorkerNode
from pause_manager.models.clock import database_now
from pause_manager.pause_queue import outlook, unserved
from pause_manager.reasons import ORDER, Explanation, Reason, ReasonCode
from pause_manager.resources import line, places

NOT_BEFORE = ReasonCode.NOT_BEFORE
_ENTRY = PauseQueueEntry._meta.db_table


def explain(entry: PauseQueueEntry) -> Explanation:
    """Every reason why ``entry`` waits, in order, and how many wait for the same before it.

    A constant number of statements. Its expected start is known if it waits for a resource only, from the rate at which
    those before it resumed; nobody can tell when room comes or a hold ends.
    """
    if entry.finished_at is not None and not entry.problem:
        sentence = f"It has left the pause queue: {entry.get_outcome_display()}."
        return Explanation((Reason(ReasonCode.FINISHED, sentence, entry.finished_at, SYSTEM.name, "nothing"),))
    reasons = [
        *_of_failure(entry),
        *_of_holds(entry),
        *_of_places(entry),
        *_of_problem(entry),
        *_of_time(entry),
        *_of_room(entry),
        *_of_workers(entry),
    ]
    place = line.place_of(entry, entry.uses) if entry.uses and _waits_for_hold(entry) else None
    if place is None:
        return Explanation(tuple(reasons), position(entry))
    others = any(reason.keeps and not _is_of_resource(reason) for reason in reasons)
    return Explanation(tuple(reasons), place.position, None if others else place.expected_start)


def _waits_for_hold(entry: PauseQueueEntry) -> bool:
    return entry.finished_at is None and entry.waits_for == PauseQueueEntry.WaitsFor.HOLD


def _is_of_resource(reason: Reason) -> bool:
    is_held = str(reason.figures.get("scope", "")).startswith(scopes.resource(""))
    return reason.code == ReasonCode.RESOURCE or is_held


def scopes_of(entry: PauseQueueEntry) -> list[str]:
    """Every scope whose holds keep ``entry``, nodes aside."""
    queue = entry.work_queue or entry.queue
    of_run = [entry.ref] if entry.is_run else []
    return ["fleet", f"queue:{queue}", *of_run, *(f"resource:{name}" for name in entry.uses)]


def _of_holds(entry: PauseQueueEntry) -> list[Reason]:
    found = list(Hold.objects.covering(scopes_of(entry)).exclude(kind=Hold.Kind.CAPACITY))
    live = WorkerNode.objects.seen_within(timedelta(seconds=conf.settings().unknown_seconds))
    nodes = [f"node:{name}" for name in live.values_list("name", flat=True)]
    held = list(Hold.objects.covering(nodes)) if nodes else []
    found += held if {hold.scope for hold in held} == set(nodes) else []
    found.sort(key=lambda hold: (ORDER.index(wording.code_of(hold)), hold.created_at))
    return [wording.reason_of(hold) for hold in found]


def _of_failure(entry: PauseQueueEntry) -> list[Reason]:
    if entry.waits_for != PauseQueueEntry.WaitsFor.ANSWER or entry.finished_at is not None:
        return []
    figures = {"failure": entry.failure, "answers": list(PauseQueueEntry.Answer.values)}
    lifted = f"a person decides: retry, skip or fail (pause_queue answer {entry.pk} --answer retry)"
    sentence = f"It waits for an answer. {entry.reason}"
    return [Reason(ReasonCode.NEEDS_INPUT, sentence, entry.paused_at, SYSTEM.name, lifted, figures=figures)]


def _of_places(entry: PauseQueueEntry) -> list[Reason]:
    """The resources that have no place for it, though nothing holds them."""
    if not entry.uses or not _waits_for_hold(entry):
        return []
    lifted = "one that uses it ends, its next start comes, or its limit is raised"
    return [
        Reason(ReasonCode.RESOURCE, why, entry.paused_at, SYSTEM.name, lifted, figures={"resource": name})
        for name, why in places.what_is_short(entry.uses).items()
    ]


def _of_problem(entry: PauseQueueEntry) -> list[Reason]:
    if not entry.problem:
        return []
    label = PauseQueueEntry.Problem(entry.problem).label
    lifted = "it is renamed, rerouted or dropped (manage.py pause_queue), or a worker that knows it is started"
    return [Reason(entry.problem, f"Nobody takes it up: {label}.", None, SYSTEM.name, lifted)]


def _of_time(entry: PauseQueueEntry) -> list[Reason]:
    if entry.resume_after is None or entry.resume_after <= database_now():
        return []
    at = times.written(entry.resume_after)
    return [Reason(NOT_BEFORE, f"It is not to resume before {at}.", entry.paused_at, SYSTEM.name, "its time comes")]


def _of_room(entry: PauseQueueEntry) -> list[Reason]:
    if entry.waits_for != PauseQueueEntry.WaitsFor.CAPACITY or entry.finished_at is not None:
        return []
    now = outlook.of([entry]).get(entry.pk)
    sentence = f"It waits for room: {now.sentence}" if now else f"It waits for room: {entry.reason}"
    figures = {"needs": dict(entry.needs), **(now.as_dict() if now else {})}
    lifted = f"there is room, or an operator sends it on anyway (pause_queue force {entry.pk})"
    return [Reason(ReasonCode.CAPACITY, sentence, entry.paused_at, SYSTEM.name, lifted, figures=figures)]


def _of_workers(entry: PauseQueueEntry) -> list[Reason]:
    queue = entry.work_queue or entry.queue
    if not unserved.of([queue]):
        return []
    lifted = f"a worker is started with -Q {queue}"
    return [Reason(outlook.NO_WORKER, unserved.sentence(queue), None, SYSTEM.name, lifted, keeps=False)]


def position(entry: PauseQueueEntry) -> int | None:
    """1 is next among those that wait for the same: room, or the end of a hold on the same queue."""
    if entry.finished_at is not None or entry.waits_for == PauseQueueEntry.WaitsFor.ANSWER:
        return None
    values: dict[str, Any] = {
        "waits_for": entry.waits_for,
        "queue": entry.work_queue,
        "priority": entry.priority,
        "paused_at": entry.paused_at,
        "id": entry.pk,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE, values)
        (before,) = cursor.fetchone()
    return int(before) + 1


_BEFORE = f"""
    SELECT count(*) FROM {_ENTRY} AS entry
     WHERE entry.finished_at IS NULL AND entry.waits_for = %(waits_for)s AND entry.work_queue = %(queue)s
       AND (entry.priority, entry.paused_at, entry.id) < (%(priority)s, %(paused_at)s::timestamptz, %(id)s)
"""
