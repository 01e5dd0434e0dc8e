"""Entries that were sent on and wait again: lost, refused by the broker, or set aside by a worker."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Case, DateTimeField, Exists, F, Func, OuterRef, Q, Value, When

from pause_manager.actor import SYSTEM
from pause_manager.models import PauseQueueEntry, PauseQueueQuerySet
from pause_manager.observability import audit
from pause_manager.pause_queue import transitions
from pause_manager.pause_queue.transitions import DROP, REOPEN

logger = logging.getLogger("pause_manager.pause_queue.returning")

Problem = PauseQueueEntry.Problem

MOST_LOSSES = 3
"""A message that was lost so often waits alone, for people to see."""

_FIRST_SECONDS = {Problem.REFUSED: 10, Problem.UNREADABLE: 60, Problem.UNCONFIRMED: 30}
_MOST_SECONDS = 3_600


def set_aside(entry_id: int, generation: int, problem: str, reason: str) -> bool:
    """Let the entry wait again whose message of that ``generation`` a worker received and cannot run.

    False, and nothing is changed, if that message is not the last that was sent from it, or is answered. With
    ``unknown_task`` it waits until a live worker that serves its queue knows the task (after the first time: and for a
    while that doubles, as several workers may know different tasks); with ``unreadable`` for a minute, two, … up to an
    hour. A person may send it on at once, rename, reroute or drop it.
    """
    problem = Problem(problem)
    with transaction.atomic():
        rows = _locked(PauseQueueEntry.objects.unconfirmed().filter(pk=entry_id, generation=generation))
        if not rows:
            return False
        _wait_again(rows, problem, reason, _time_of(problem))
    return True


def refuse(pk: int, generation: int, why: str) -> None:
    """The broker refuses the message of that ``generation``: it waits alone, twice as long each time."""
    set_aside(pk, generation, Problem.REFUSED, f"The broker refuses the message: {why}")


def take_back(sent: PauseQueueQuerySet, why: str) -> int:
    """The broker did not take the messages of ``sent``: they wait in their places; nothing is counted as lost."""
    with transaction.atomic():
        rows = _locked(sent)
        if rows:
            transitions.apply(REOPEN, PauseQueueEntry.objects.filter(pk__in=[pk for pk, *_ in rows]))
            _tell(rows, why, {})
            logger.warning("%d messages wait again: %s.", len(rows), why)
    return len(rows)


def reopen(sent: PauseQueueQuerySet, reason: str, *, keeps_place: bool = False) -> int:
    """Let the entries of ``sent``, whose messages were lost, wait again, to be sent with a new number; how many.

    What ``keeps_place`` waits for no room, which was its own a moment ago: only a hold keeps it. What was lost
    :data:`MOST_LOSSES` times waits alone, and longer each time, for people to see.
    """
    with transaction.atomic():
        rows = _locked(sent)
        often = [row for row in rows if row[2] + 1 >= MOST_LOSSES]
        more = {"waits_for": PauseQueueEntry.WaitsFor.HOLD} if keeps_place else {}
        _wait_again([row for row in rows if row not in often], None, reason, None, more)
        for losses in {row[2] for row in often}:
            sentence = f"It was sent {losses + 1} times and nobody took it up ({reason})."
            same = [row for row in often if row[2] == losses]
            _wait_again(same, Problem.UNCONFIRMED, sentence, _time_of(Problem.UNCONFIRMED))
    if rows:
        logger.warning("%d messages wait again: %s.", len(rows), reason)
    return len(rows)


_Row = tuple[int, str, int]
"""Key, ref, losses."""


def _locked(sent: PauseQueueQuerySet) -> list[_Row]:
    """The rows of ``sent``, locked, in the order of their keys, that can wait again.

    One whose ``ref`` was parked again meanwhile cannot: the new entry waits for both.
    """
    again = PauseQueueEntry.objects.waiting().order_by().filter(ref=OuterRef("ref"), message__isnull=True)
    # What they are chosen by is judged once more when they are locked: an answer may have come.
    chosen = sent.filter(outcome=PauseQueueEntry.Outcome.SENT).order_by("pk").select_for_update(of=("self",))
    parked_anew = Case(When(Q(message__isnull=True) & Exists(again), then=Value(True)), default=Value(False))
    rows = list(chosen.annotate(parked_anew=parked_anew).values_list("pk", "ref", "losses", "parked_anew"))
    if doubled := [(pk, ref) for pk, ref, _, is_doubled in rows if is_doubled]:
        transitions.apply(DROP, PauseQueueEntry.objects.filter(pk__in=[pk for pk, _ in doubled]))
        reason = "the same was parked again while its message was on its way"
        audit.record_each("dropped", [(ref, {"entry": pk}) for pk, ref in doubled], actor=SYSTEM, reason=reason)
    return [(pk, ref, losses) for pk, ref, losses, is_doubled in rows if not is_doubled]


def _wait_again(
    rows: Sequence[_Row], problem: Problem | None, reason: str, resume_after: Any, more: Mapping[str, Any] | None = None
) -> None:
    if not rows:
        return
    values = {"attempts": F("attempts") + 1, "losses": F("losses") + 1, **(more or {})}
    if problem is not None:
        values |= {"problem": problem.value, "reason": reason, "resume_after": resume_after}
    transitions.apply(REOPEN, PauseQueueEntry.objects.filter(pk__in=[pk for pk, *_ in rows]), **values)
    _tell(rows, reason, {"problem": problem.value} if problem is not None else {})


def _tell(rows: Sequence[_Row], reason: str, more: dict[str, Any]) -> None:
    details = [(ref, {"entry": pk, "again": True, **more}) for pk, ref, _ in rows]
    audit.record_each("parked", details, actor=SYSTEM, reason=reason)


def _time_of(problem: Problem) -> Any:
    """When to try again, by the database's clock: later and later with each loss."""
    first = _FIRST_SECONDS.get(problem, 10)
    later = Func(
        F("losses"),
        template=f"statement_timestamp() + make_interval(secs => least({_MOST_SECONDS}, {first} * 2 ^ least("
        "%(expressions)s, 16)))",
        output_field=DateTimeField(),
    )
    if problem != Problem.UNKNOWN_TASK:
        return later
    return Case(When(losses=0, then=Value(None)), default=later, output_field=DateTimeField())
