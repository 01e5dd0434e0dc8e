"""The durable pause queue: park, send on exactly once, drop. Writes :class:`PauseQueueEntry`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, Count, F, When
from django.db.models.functions import Now

from pause_manager import holds
from pause_manager.actor import CAPACITY, SYSTEM, Actor
from pause_manager.capacity.needs import Needs
from pause_manager.messaging import broker, envelope
from pause_manager.messaging.message import ENTRY
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.observability import audit
from pause_manager.pause_queue.returning import WAITING as WAITING
from pause_manager.pause_queue.returning import refuse, take_back
from pause_manager.pause_queue.returning import reopen as reopen
from pause_manager.pause_queue.returning import set_aside as set_aside

logger = logging.getLogger("pause_manager.pause_queue.writer")

_POLL = "slackwater poll"
BODIES_AT_ONCE = 50
"""Bodies are read when they are sent, so many at a time, however many entries go on."""


@dataclass(frozen=True)
class Parked:
    """A dispatch to withhold: the signature, where it goes, what it needs. ``ref`` names what waits, once."""

    ref: str
    task_name: str
    queue: str
    needs: Needs
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    priority: int = 3
    resume_after: datetime | None = None
    pipeline: str = ""
    """Whose policy it goes on by; empty: the fleet's."""
    work_queue: str = ""
    """The queue whose workers do the work, where its message goes to another; empty: to the same."""


def park(items: Sequence[Parked], *, reason: str, details: dict[str, Any]) -> int:
    """Write an entry for each of ``items`` and hold those that are runs, in one transaction; returns how many wait.

    A ``ref`` that waits already keeps its entry, its time and its place. Raises ``RuntimeError``, having written
    nothing, if the number waiting is not the number given: work is never dropped in silence.
    """
    if not items:
        return 0
    refs = [item.ref for item in items]
    with transaction.atomic():
        scopes = [ref for ref in refs if ref.startswith("run:")]
        if scopes:
            holds.place(scopes, kind=Hold.Kind.CAPACITY, actor=CAPACITY, reason=reason)
        before = PauseQueueEntry.objects.filter(ref__in=refs).order_by().values("ref").annotate(times=Count("id"))
        parked_before = dict(before.values_list("ref", "times"))
        waited = set(PauseQueueEntry.objects.waiting().filter(ref__in=refs).values_list("ref", flat=True))
        PauseQueueEntry.objects.bulk_create(
            [
                PauseQueueEntry(
                    ref=item.ref,
                    task_name=item.task_name,
                    args=list(item.args),
                    kwargs=item.kwargs,
                    queue=item.queue,
                    work_queue=item.work_queue or item.queue,
                    priority=item.priority,
                    needs=asdict(item.needs),
                    reason=reason,
                    resume_after=item.resume_after,
                    pipeline=item.pipeline,
                    attempts=parked_before.get(item.ref, 0),
                )
                for item in items
            ],
            ignore_conflicts=True,
            batch_size=1_000,
        )
        waiting = PauseQueueEntry.objects.waiting().filter(ref__in=refs).count()
        if waiting != len(set(refs)):
            raise RuntimeError(f"Cannot park {len(set(refs))} dispatches: {waiting} entries were written.")
        audit.record_each(
            "parked",
            [(ref, details) for ref in dict.fromkeys(refs) if ref not in waited],
            actor=CAPACITY,
            reason=reason,
            changes={item.ref: (None, {"task": item.task_name, "priority": item.priority}) for item in items},
        )
    return waiting


def send_on(
    entry_ids: Sequence[int], *, actor: Actor, reason: str, details: Mapping[int, dict[str, Any]] | None = None
) -> int:
    """Release the capacity holds of the entries and send their signatures; each entry is finished exactly once.

    Returns how many this call sent. Entries that another caller is sending are left to it, and messages wait on while
    the broker is known to be away. A message goes out after the commit and is answered by the worker that takes it;
    what the broker refuses or does not take waits again, and one that is lost is sent again by ``redispatch``. A run
    goes on with the next reconcile, whatever becomes of its message. ``details`` go, by entry, with the events.
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


def close_as_sent(
    entry_ids: Sequence[int], *, actor: Actor, reason: str, details: Mapping[int, dict[str, Any]] | None = None
) -> list[PauseQueueEntry]:
    """The first half of :func:`send_on`: what is returned must be given to :func:`deliver` after the commit."""
    with transaction.atomic():
        candidates = PauseQueueEntry.objects.waiting().filter(pk__in=entry_ids)
        # Runs before entries, as everywhere else, so that nobody waits for somebody who waits for him.
        holds.lock(_runs(candidates.values_list("ref", flat=True)))
        taken = list(candidates.light().with_wait().select_for_update(skip_locked=True))
        if broker.seems_away() and not all(entry.is_run for entry in taken):
            logger.warning("The broker is away: only runs go on.")
            taken = [entry for entry in taken if entry.is_run]
        if not taken:
            return []
        # The entries are closed before the holds, so that the release finds nothing left to close.
        PauseQueueEntry.objects.filter(pk__in=[entry.pk for entry in taken]).update(
            finished_at=Now(),
            outcome=PauseQueueEntry.Outcome.SENT,
            sent_at=Now(),
            generation=F("generation") + 1,
            # A run is answered for by dispatch, which looks after it from here.
            confirmed_at=Case(When(ref__startswith="run:", then=Now())),
        )
        if scopes := _runs(entry.ref for entry in taken):
            holds.release(scopes, kind=Hold.Kind.CAPACITY, actor=actor, reason=reason)
        details = details or {}
        waited = {entry.pk: round(entry.waited, 3) for entry in taken}  # type: ignore[attr-defined]
        audit.record_each(
            "sent_on",
            [
                (entry.ref, {"entry": entry.pk, "waited_seconds": waited[entry.pk], **details.get(entry.pk, {})})
                for entry in taken
            ],
            actor=actor,
            reason=reason,
            changes={entry.ref: (_waiting(entry), {"outcome": "sent"}) for entry in taken},
        )
    return taken


def _runs(refs: Iterable[str]) -> list[str]:
    return sorted(ref for ref in refs if ref.startswith("run:"))


def lock(what: str) -> bool:
    """Take ``what`` for this transaction; False if somebody else has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [what])
        return bool(cursor.fetchone()[0])


def lock_poll() -> bool:
    """Take the poll for this transaction; False if another poller has it."""
    return lock(_POLL)


def exclude_polls() -> None:
    """No poll is under way, and none begins, until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_POLL])


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
    # Bodies are read when they are sent; what somebody has taken back or sent anew meanwhile is not ours any more.
    generations = {entry.pk: entry.generation + 1 for entry in entries}
    order = {pk: place for place, pk in enumerate(generations)}
    whole = [
        entry
        for entry in PauseQueueEntry.objects.filter(pk__in=generations, outcome=PauseQueueEntry.Outcome.SENT)
        if entry.generation == generations[entry.pk] and (entry.is_run or entry.confirmed_at is None)
    ]
    whole.sort(key=lambda entry: order[entry.pk])
    messages: list[broker.Sending] = []
    left: dict[int, broker.Fate] = {}
    for entry in whole:
        entry.generation -= 1
        try:
            messages.append(_sending(entry))
        except Exception as error:
            left[entry.pk] = broker.Fate("refused", f"it cannot be built ({type(error).__name__}: {error})")
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
            fate = broker.Fate("refused", f"it cannot be built ({type(error).__name__}: {error})")
        fates.append(fate)
    why = {entry.pk: fate.why for entry, fate in zip(entries, fates, strict=True) if fate.what != "away"}
    with transaction.atomic():
        waiting = PauseQueueEntry.objects.waiting().light().filter(pk__in=why)
        closed = list(waiting.select_for_update())
        PauseQueueEntry.objects.filter(pk__in=[entry.pk for entry in closed]).update(
            finished_at=Now(), outcome=PauseQueueEntry.Outcome.EXPIRED
        )
        audit.record_each(
            "expired",
            [(one.ref, {"entry": one.pk, **({"refused": why[one.pk]} if why[one.pk] else {})}) for one in closed],
            actor=SYSTEM,
            reason="its time to run was over while it waited",
            changes={entry.ref: (_waiting(entry), {"outcome": "expired"}) for entry in closed},
        )
    return len(why)


def _sending(entry: PauseQueueEntry) -> broker.Sending:
    headers = {} if entry.is_run else {ENTRY: f"{entry.pk}.{entry.generation + 1}"}
    return _built(entry, headers)


def _built(entry: PauseQueueEntry, headers: dict[str, Any]) -> broker.Sending:
    """The entry's message, to the entry's queue, of the entry's task: both may have been changed since it was kept."""
    message = envelope.load(bytes(entry.envelope)) if entry.envelope is not None else entry.message
    if message is not None:
        told = {**headers, "task": entry.task_name}
        return broker.as_it_came(message, bytes(entry.body or b""), told, queue=entry.queue)
    return broker.signature(
        entry.task_name,
        entry.args,
        entry.kwargs,
        # One id for ever: a message that is sent again is the same message.
        task_id=f"parked-{entry.pk}",
        queue=entry.queue,
        headers=headers,
    )


def force(refs: Sequence[str]) -> None:
    """Note that the entries which wait for ``refs`` wait for no room any more: an operator starts them anyway."""
    PauseQueueEntry.objects.waiting().filter(ref__in=refs).update(is_forced=True)


def drop_released(scopes: Sequence[str], *, actor: Actor) -> None:
    """Drop the entries whose capacity holds were released, unless by sending them on: their waiting has ended too."""
    still = set(Hold.objects.covering(scopes).filter(kind=Hold.Kind.CAPACITY).values_list("scope", flat=True))
    freed = [scope for scope in scopes if scope not in still]
    waiting = PauseQueueEntry.objects.waiting().filter(ref__in=freed)
    dropped = list(waiting.light().select_for_update())
    if not dropped:
        return
    waiting.update(finished_at=Now(), outcome=PauseQueueEntry.Outcome.DROPPED)
    audit.record_each(
        "dropped",
        [(entry.ref, {"entry": entry.pk}) for entry in dropped],
        actor=actor,
        reason="what held it was released",
        changes={entry.ref: (_waiting(entry), {"outcome": "dropped"}) for entry in dropped},
    )


def _waiting(entry: PauseQueueEntry) -> dict[str, Any]:
    """What an event tells of an entry that waited."""
    return {"paused_at": entry.paused_at.isoformat(), "priority": entry.priority, "reason": entry.reason}
