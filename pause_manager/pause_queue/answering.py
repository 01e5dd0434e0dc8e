"""What a person decides about tasks whose retries are used up: run again, drop, or let fail."""

from __future__ import annotations

from django.db import transaction

from pause_manager.actor import Actor
from pause_manager.models import PauseQueueEntry, PauseQueueQuerySet
from pause_manager.observability import audit
from pause_manager.pause_queue import transitions, writer
from pause_manager.pause_queue.delivery import send_on
from pause_manager.pause_queue.stuck import InvalidEntryCommand, Selection
from pause_manager.pause_queue.transitions import DROP

Answer = PauseQueueEntry.Answer


def answer(
    meant: Selection, given: str, *, actor: Actor, reason: str, among: PauseQueueQuerySet | None = None
) -> list[int]:
    """Answer for those of ``meant`` that wait for an answer; their keys.

    What runs again or fails goes to a worker, and waits for the holds on it as any message does. Raises
    ``InvalidEntryCommand`` for what is no answer.
    """
    if given not in Answer.values:
        expected = ", ".join(Answer.values)
        raise InvalidEntryCommand(f"Cannot answer: expected {expected}, got: {given[:100]}.")
    asking = meant.chosen(among).filter(waits_for=PauseQueueEntry.WaitsFor.ANSWER, finished_at=None, revoked_at=None)
    with transaction.atomic():
        rows = list(asking.order_by("pk").select_for_update().values_list("pk", "ref", "failure"))
        pks = [pk for pk, _, _ in rows]
        if given == Answer.SKIP:
            transitions.apply(DROP, PauseQueueEntry.objects.filter(pk__in=pks), answer=given)
        else:
            writer.answer(pks, given)
        for pk, ref, failure in rows:
            details = {"entry": pk, "answer": given, "error": (failure or {}).get("error", "")}
            audit.record("answered", scope=ref, actor=actor, reason=reason, details=details)
    if given != Answer.SKIP and pks:
        free = PauseQueueEntry.objects.free().filter(pk__in=pks)
        send_on(list(free.values_list("pk", flat=True)), actor=actor, reason=reason or f"answered: {given}")
    return pks
