"""Send the messages of entries: after the commit that closes the entry, each exactly once, each with its own fate."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from django.db import connection, transaction

from pause_manager.actor import SYSTEM, Actor
from pause_manager.messaging import broker, envelope, outgoing
from pause_manager.messaging.headers import ENTRY
from pause_manager.models import PauseQueueEntry
from pause_manager.observability import audit
from pause_manager.pause_queue import transitions
from pause_manager.pause_queue.returning import refuse, take_back
from pause_manager.pause_queue.transitions import EXPIRE
from pause_manager.pause_queue.writer import close_as_sent, waiting_facts

logger = logging.getLogger("pause_manager.pause_queue.delivery")

BODIES_AT_ONCE = 50
"""Bodies are read when they are sent, at most this number at a time, however many entries are sent."""


def send_on(
    entry_ids: Sequence[int], *, actor: Actor, reason: str, details: Mapping[int, dict[str, Any]] | None = None
) -> int:
    """Release the capacity holds of the entries and send their messages; each entry is finished exactly once.

    1. The runs among them are locked, then the entries that still wait; those that another caller is sending are left
       to it, and messages wait on while the broker is known to be away.
    2. The entries are closed as sent, each with a new generation, then the capacity holds of the runs are released.
    3. After the commit each message is sent. What the broker refuses or does not take waits again.
    4. The worker that receives a message confirms it; one that is lost is sent again by ``redispatch``. A run resumes
       with the next reconcile, whatever becomes of its message.

    Returns how many this call sent. ``details`` go, by entry, with the events.
    """
    if connection.in_atomic_block:
        # Nobody is asked for anything while we hold locks.
        taken = close_as_sent(entry_ids, actor=actor, reason=reason, details=details)
        transaction.on_commit(lambda: deliver(taken), robust=True)
        return len(taken)
    with suppress(broker.BrokerAway), broker.sender() as sender:
        taken = close_as_sent(entry_ids, actor=actor, reason=reason, details=details)
        deliver(taken, by=sender)
        return len(taken)
    return len(close_as_sent(entry_ids, actor=actor, reason=reason, details=details))


def deliver(entries: Sequence[PauseQueueEntry], *, by: broker.Sender | None = None, until: float | None = None) -> int:
    """Send the messages of entries that were closed as sent and committed; returns how many the broker took.

    Each has its own fate: one that the broker refuses waits alone, with the reason and a time to try again; with the
    broker away what is left waits on. What is lost later, or with this process, ``redispatch`` misses.
    """
    if not entries:
        return 0
    try:
        with nullcontext(by) if by is not None else broker.sender() as sender:
            return sum(
                _deliver(entries[first : first + BODIES_AT_ONCE], sender, until)
                for first in range(0, len(entries), BODIES_AT_ONCE)
            )
    except broker.BrokerAway as error:
        sent = PauseQueueEntry.objects.unconfirmed().filter(pk__in=[entry.pk for entry in entries])
        take_back(sent, f"the broker is away ({error})")
        return 0


def _deliver(entries: Sequence[PauseQueueEntry], sender: broker.Sender, until: float | None) -> int:
    # Bodies are read when they are sent; what somebody has taken back or sent again meanwhile is not ours any more.
    generations = {entry.pk: entry.generation + 1 for entry in entries}
    order = {pk: place for place, pk in enumerate(generations)}
    whole = [
        entry
        for entry in PauseQueueEntry.objects.filter(pk__in=generations, outcome=PauseQueueEntry.Outcome.SENT)
        if entry.generation == generations[entry.pk] and (entry.is_run or entry.confirmed_at is None)
    ]
    whole.sort(key=lambda entry: order[entry.pk])
    messages: list[outgoing.Sending] = []
    left: dict[int, broker.PublishResult] = {}
    for entry in whole:
        entry.generation -= 1
        try:
            messages.append(_sending(entry))
        except Exception as error:
            left[entry.pk] = broker.PublishResult("refused", f"it cannot be built ({type(error).__name__}: {error})")
    built = [entry.pk for entry in whole if entry.pk not in left]
    fates = sender.publish(messages, until=until)
    left |= {pk: fate for pk, fate in zip(built, fates, strict=True) if fate != broker.TAKEN}
    messages_left = [entry for entry in whole if entry.pk in left and not entry.is_run]
    away = [entry.pk for entry in messages_left if left[entry.pk].what == "away"]
    for entry in messages_left:
        if left[entry.pk].what == "refused":
            refuse(entry.pk, entry.generation + 1, left[entry.pk].why)
    if away:
        why = f"the broker is away ({left[away[0]].why})"
        take_back(PauseQueueEntry.objects.unconfirmed().filter(pk__in=away), why)
    return len(whole) - len(left)


def let_expire(entries: Sequence[PauseQueueEntry], sender: broker.Sender) -> int:
    """Send the messages of waiting entries whose time is over as if they had never waited, and close the entries.

    Returns how many were closed: all but those for which the broker is away. One that it refuses is closed too, with
    the reason in the event: nobody could run it any more.
    """
    fates = []
    for entry in entries:
        try:
            (fate,) = sender.publish([_built(entry, {})])
        except Exception as error:
            fate = broker.PublishResult("refused", f"it cannot be built ({type(error).__name__}: {error})")
        fates.append(fate)
    why = {entry.pk: fate.why for entry, fate in zip(entries, fates, strict=True) if fate.what != "away"}
    with transaction.atomic():
        waiting = PauseQueueEntry.objects.waiting().light().filter(pk__in=why)
        closed = list(waiting.select_for_update())
        transitions.apply(EXPIRE, PauseQueueEntry.objects.filter(pk__in=[entry.pk for entry in closed]))
        audit.record_each(
            "expired",
            [(one.ref, {"entry": one.pk, **({"refused": why[one.pk]} if why[one.pk] else {})}) for one in closed],
            actor=SYSTEM,
            reason="its time to run was over while it waited",
            changes={entry.ref: (waiting_facts(entry), {"outcome": "expired"}) for entry in closed},
        )
    return len(why)


def _sending(entry: PauseQueueEntry) -> outgoing.Sending:
    headers = {} if entry.is_run else {ENTRY: f"{entry.pk}.{entry.generation + 1}"}
    return _built(entry, headers)


def _built(entry: PauseQueueEntry, headers: dict[str, Any]) -> outgoing.Sending:
    """The entry's message, to the entry's queue, of the entry's task: both may have been changed since it was kept."""
    message = envelope.load(bytes(entry.envelope)) if entry.envelope is not None else entry.message
    if message is not None:
        told = {**headers, "task": entry.task_name}
        return outgoing.copy_message(message, bytes(entry.body or b""), told, queue=entry.queue)
    return outgoing.task_message(
        entry.task_name,
        entry.args,
        entry.kwargs,
        # One id always: a message that is sent again is the same message.
        task_id=f"parked-{entry.pk}",
        queue=entry.queue,
        headers=headers,
    )
