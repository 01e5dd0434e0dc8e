"""What nobody takes up, and what a person can do about it: drop it, rename its task, send it to another queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from pause_manager.actor import Actor
from pause_manager.errors import PauseManagerError
from pause_manager.models import PauseQueueEntry, PauseQueueQuerySet
from pause_manager.nodes import known_tasks
from pause_manager.observability import audit
from pause_manager.pause_queue import transitions
from pause_manager.pause_queue.transitions import DROP, REQUEUE, EntryTransition

_BATCH = 1_000
_LONGEST_NAME = 1_000


class InvalidEntryCommand(PauseManagerError):
    """Something was asked for that cannot be done with entries of the pause queue; the sentence names it."""

    code = "entry_command_invalid"


@dataclass(frozen=True)
class Selection:
    """Which messages of the pause queue are meant: those that match all that is given. Runs are never meant."""

    ids: tuple[int, ...] = ()
    task_name: str = ""
    queue: str = ""
    problem: str = ""

    def chosen(self, among: PauseQueueQuerySet | None = None) -> PauseQueueQuerySet:
        """Those that wait, or are on their way and not taken up. Raises ``InvalidEntryCommand`` if nothing is given."""
        if not (self.ids or self.task_name or self.queue or self.problem):
            raise InvalidEntryCommand("Cannot act on entries: expected ids, a task, a queue or a problem, got nothing.")
        if self.problem and self.problem not in PauseQueueEntry.Problem.values:
            known = ", ".join(PauseQueueEntry.Problem.values)
            raise InvalidEntryCommand(f"Cannot act on entries: expected a problem of {known}, got: {self.problem}.")
        found = (PauseQueueEntry.objects.all() if among is None else among).messages().unfinished()
        if self.ids:
            found = found.filter(pk__in=[pk for pk in self.ids if 0 < pk < 1 << 63])
        for name in ("task_name", "queue", "problem"):
            if value := getattr(self, name):
                found = found.filter(**{name: value})
        return found


def drop(meant: Selection, *, actor: Actor, reason: str, among: PauseQueueQuerySet | None = None) -> list[int]:
    """Take the entries out of the queue for good; their keys. A message that is on its way is not run any more."""
    return _changed("dropped", meant, among, DROP, {}, {"outcome": "dropped"}, actor, reason)


def rename(
    old: str,
    new: str,
    *,
    actor: Actor,
    reason: str,
    queue: str = "",
    among: PauseQueueQuerySet | None = None,
) -> list[int]:
    """Let the entries of the task ``old`` run the task ``new``, and wait for nothing but holds and room; their keys."""
    _check("a task", old)
    if old == new:
        raise InvalidEntryCommand(f"Cannot rename {old}: that is its name.")
    return rename_entries(Selection(task_name=old, queue=queue), new, actor=actor, reason=reason, among=among)


def rename_entries(
    meant: Selection, new: str, *, actor: Actor, reason: str, among: PauseQueueQuerySet | None = None
) -> list[int]:
    """The same for the entries of ``meant``, whatever their task."""
    _check("a task", new)
    values = {"task_name": new}
    return _changed("renamed", meant, among, REQUEUE, values, {"task": new, "problem": ""}, actor, reason)


def reroute(
    meant: Selection, queue: str, *, actor: Actor, reason: str, among: PauseQueueQuerySet | None = None
) -> list[int]:
    """Let the entries go to ``queue``, as soon as nothing holds that one and there is room; their keys."""
    _check("a queue", queue)
    values = {"queue": queue, "work_queue": queue}
    return _changed("rerouted", meant, among, REQUEUE, values, {"queue": queue, "problem": ""}, actor, reason)


def _check(what: str, name: str) -> None:
    if not name.strip() or name != name.strip() or "\0" in name or len(name) > _LONGEST_NAME:
        raise InvalidEntryCommand(f"Cannot use {name[:100]!r}: expected the name of {what}.")


def _changed(
    action: str,
    meant: Selection,
    among: PauseQueueQuerySet | None,
    transition: EntryTransition,
    values: dict[str, Any],
    after: dict[str, Any],
    actor: Actor,
    reason: str,
) -> list[int]:
    chosen = meant.chosen(among).order_by("pk")
    if transition is REQUEUE:
        # One that was parked again while its message was on its way waits there.
        again = PauseQueueEntry.objects.waiting().order_by().filter(ref=OuterRef("ref"), message__isnull=True)
        chosen = chosen.exclude(Q(outcome=PauseQueueEntry.Outcome.SENT, message__isnull=True) & Exists(again))
    changed: list[int] = []
    while True:
        with transaction.atomic():
            later = chosen.filter(pk__gt=changed[-1]) if changed else chosen
            # What they are chosen by is judged once more when they are locked: a worker may have taken it up.
            rows = list(later.select_for_update().values("pk", "ref", *_TOLD.values())[:_BATCH])
            transitions.apply(transition, PauseQueueEntry.objects.filter(pk__in=[row["pk"] for row in rows]), **values)
            _tell(action, rows, after, actor, reason)
        changed += [row["pk"] for row in rows]
        if len(rows) < _BATCH:
            return changed


def _tell(action: str, rows: list[dict[str, Any]], after: dict[str, Any], actor: Actor, reason: str) -> None:
    """An event each; several entries may wait for one thing."""
    left = rows
    while left:
        by_ref = {row["ref"]: row for row in reversed(left)}
        before = {ref: {name: row[column] for name, column in _TOLD.items()} for ref, row in by_ref.items()}
        audit.record_each(
            action,
            [(ref, {"entry": row["pk"]}) for ref, row in by_ref.items()],
            actor=actor,
            reason=reason,
            changes={ref: (was, {**was, **after}) for ref, was in before.items()},
        )
        left = [row for row in left if by_ref[row["ref"]] is not row]


_TOLD = {"task": "task_name", "queue": "queue", "problem": "problem", "outcome": "outcome", "why": "reason"}


def counts() -> dict[str, int]:
    """How many entries have each problem; every problem is named."""
    with connection.cursor() as cursor:
        cursor.execute(known_tasks.STUCK)
        found = dict(cursor.fetchall())
    return {problem: found.get(problem, 0) for problem in PauseQueueEntry.Problem.values}
