"""What became of a message that was sent on from the pause queue: confirmed, finished, redelivered, discarded, revoked.

A message may come twice. Its entry is confirmed once, so that only one of the two deliveries runs the task.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from pause_manager.messaging.headers import deaths
from pause_manager.messaging.message import ref_of
from pause_manager.messaging.readable import clean
from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import running_tasks
from pause_manager.pause_queue import transitions, writer
from pause_manager.pause_queue.transitions import CONFIRM, DISCARD, REVOKE, UNCONFIRM
from pause_manager.resources import answered

UNTAGGED = "untagged:"
"""Before the id of a delivery whose message the broker gives no name of its own."""

_FINISHED = f"""
    WITH gone AS ({running_tasks.END}, uses), forgotten AS ({writer.FORGET_CONTENT})
    SELECT DISTINCT unnest(uses) FROM gone
"""


def confirm_once(named: tuple[int, int], key: str, turn: UUID, *, is_redelivered: bool) -> bool:
    """Confirm the entry of a message whose task confirms nothing itself; False if another message has confirmed it.

    ``key`` is the broker's own name for the message, the same when it is delivered again: what is redelivered after a
    crash is confirmed again, as any message would be. Where the broker has none, ``turn`` names this delivery.
    """
    pk, generation = named
    confirmed_by = key or f"{UNTAGGED}{turn}"
    is_this = Q(confirmed_by=confirmed_by)
    if not key and is_redelivered:
        is_this |= Q(confirmed_by__startswith=UNTAGGED)
    sent = PauseQueueEntry.objects.filter(Q(confirmed_at=None) | is_this, pk=pk, generation=generation)
    return bool(transitions.apply(CONFIRM, sent, confirmed_by=confirmed_by))


def came_back_dead(named: tuple[int, int], headers: Mapping[str, Any]) -> bool:
    """Whether a message with these headers was dead-lettered since it was sent, and its entry has been answered.

    Its task or the broker has refused it, and the project's topology brings it back: it is to run again. One that died
    before anybody answered for it still has its entry, and one that died before it was kept has died no more since.
    """
    died = deaths(headers)
    if not died:
        return False
    pk, generation = named
    confirmed = PauseQueueEntry.objects.filter(pk=pk, generation=generation, outcome="sent", confirmed_at__isnull=False)
    message = confirmed.values_list("message", flat=True).first()
    return message is not None and died != deaths(message.get("headers") or {})


def finished(turns: Collection[UUID]) -> set[str]:
    """Delete the rows of ``turns``, whose tasks have ended, and the bodies of the messages that they came by.

    Returns the resources that they have used, which have answered.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FINISHED, {"turns": list(turns)})
        used = {row[0] for row in cursor.fetchall()}
    answered(used)
    return used


def redelivered(turns: Collection[UUID]) -> None:
    """Let the messages of ``turns`` be confirmed again: their tasks were broken off, and the broker redelivers them."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(running_tasks.END, {"turns": list(turns)})
            entries = [row[0] for row in cursor.fetchall() if row[0] is not None]
        if entries:
            transitions.apply(UNCONFIRM, PauseQueueEntry.objects.filter(pk__in=entries))


def discard(named: tuple[int, int]) -> None:
    """Close the entry of a message that a worker has thrown away by Celery's own rules (revoked, expired)."""
    pk, generation = named
    sent = PauseQueueEntry.objects.filter(pk=pk, generation=generation)
    # In this order: one that is revoked in between is found by the second.
    if not transitions.apply(DISCARD, sent.filter(revoked_at=None)):
        transitions.apply(REVOKE, sent.filter(revoked_at__isnull=False))


def is_revoked(named: tuple[int, int]) -> bool:
    """Whether the task of this message was revoked while it waited."""
    return PauseQueueEntry.objects.filter(pk=named[0], revoked_at__isnull=False).exists()


def mark_revoked(task_ids: Iterable[str] = (), stamps: Mapping[str, Sequence[str]] | None = None) -> int:
    """Note in the entries of these tasks, and of those with any of these stamps, that they were revoked; how many.

    No worker starts them any more, whatever it remembers.
    """
    ids = list(task_ids)
    of_signatures = [int(one[7:]) for one in ids if re.fullmatch(r"parked-\d{1,18}", one)]
    cleaned = {clean(name): [clean(one) for one in values] for name, values in (stamps or {}).items()}
    return writer.mark_revoked([ref_of(one) for one in ids], of_signatures, cleaned)
