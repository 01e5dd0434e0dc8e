"""The durable pause queue: park, send on exactly once, drop. The only writer of :class:`PauseQueueEntry`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from celery import current_app
from django.db import connection, transaction
from django.db.models import Case, Count, F, When
from django.db.models.functions import Now
from django.dispatch import receiver

from pause_manager import audit, broker, holds
from pause_manager.actor import SYSTEM, Actor
from pause_manager.delivery import ENTRY
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.needs import Needs
from pause_manager.querysets import PauseQueueQuerySet
from pause_manager.signals import hold_changed, hold_changing

logger = logging.getLogger("pause_manager.pause_queue")

CAPACITY = Actor("capacity", "policy")

WAITING: dict[str, Any] = {"finished_at": None, "outcome": "", "sent_at": None, "answered_at": None, "answered_by": ""}
"""What an entry says of itself that waits again."""


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


def park(items: Sequence[Parked], *, reason: str, figures: dict[str, Any]) -> int:
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
            [(ref, figures) for ref in dict.fromkeys(refs) if ref not in waited],
            actor=CAPACITY,
            reason=reason,
            changes={item.ref: (None, {"task": item.task_name, "priority": item.priority}) for item in items},
        )
    return waiting


def send_on(
    entry_ids: Sequence[int], *, actor: Actor, reason: str, figures: Mapping[int, dict[str, Any]] | None = None
) -> int:
    """Release the capacity holds of the entries and send their signatures; each entry is finished exactly once.

    Returns how many this call sent. Entries that another caller is sending are left to it, and messages wait on while
    the broker is away. A message goes out after the entry is closed and is answered by the worker that takes it; one
    that is lost is sent again by ``kept``. A run goes on with the next reconcile, whatever becomes of its message.
    ``figures`` go, by entry, with the events.
    """
    with transaction.atomic():
        candidates = PauseQueueEntry.objects.waiting().filter(pk__in=entry_ids)
        # Runs before entries, as everywhere else, so that nobody waits for somebody who waits for him.
        hold_changing.send(Hold, scopes=_runs(candidates.values_list("ref", flat=True)))
        taken = list(candidates.with_wait().select_for_update(skip_locked=True))
        if not all(entry.is_run for entry in taken) and not broker.is_reachable():
            logger.warning("The broker is away: only runs go on.")
            taken = [entry for entry in taken if entry.is_run]
        if not taken:
            return 0
        # The entries are closed before the holds, so that the release finds nothing left to close.
        PauseQueueEntry.objects.filter(pk__in=[entry.pk for entry in taken]).update(
            finished_at=Now(),
            outcome=PauseQueueEntry.Outcome.SENT,
            sent_at=Now(),
            sending=F("sending") + 1,
            # A run is answered for by dispatch, which looks after it from here.
            answered_at=Case(When(ref__startswith="run:", then=Now())),
        )
        if scopes := _runs(entry.ref for entry in taken):
            holds.release(scopes, kind=Hold.Kind.CAPACITY, actor=actor, reason=reason)
        transaction.on_commit(lambda: _send(taken))
        details = figures or {}
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
    return len(taken)


def _runs(refs: Iterable[str]) -> list[str]:
    return sorted(ref for ref in refs if ref.startswith("run:"))


def lock(what: str) -> bool:
    """Take ``what`` for this transaction; False if somebody else has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [what])
        return bool(cursor.fetchone()[0])


def lock_poll() -> bool:
    """Take the poll for this transaction; False if another poller has it."""
    return lock("slackwater poll")


def _send(entries: Sequence[PauseQueueEntry]) -> None:
    """After the commit. What the broker does not take waits again; ``redispatch`` misses what is lost later."""
    taken = broker.publish(_sending(entry) for entry in entries)
    left = [entry.pk for entry in entries[taken:]]
    if left:
        reopen(PauseQueueEntry.objects.unanswered().filter(pk__in=left), "the broker is away")


def _sending(entry: PauseQueueEntry) -> broker.Sending:
    headers = {} if entry.is_run else {ENTRY: f"{entry.pk}.{entry.sending + 1}"}
    if entry.message is not None:
        return broker.as_it_came(entry.message, bytes(entry.body or b""), headers)
    return lambda producer: current_app.send_task(
        entry.task_name,
        args=entry.args,
        kwargs=entry.kwargs,
        queue=entry.queue,
        # One id for ever: a message that is sent again is the same message.
        task_id=f"parked-{entry.pk}",
        headers=headers,
        producer=producer,
        retry=False,
    )


def reopen(sent: PauseQueueQuerySet, reason: str) -> int:
    """Let the entries of ``sent`` wait again, to be sent with a new number; returns how many."""
    with transaction.atomic():
        # What they are chosen by is judged once more when they are locked: an answer may have come.
        locked = sent.filter(outcome=PauseQueueEntry.Outcome.SENT).order_by("pk").select_for_update()
        refs = dict(locked.values_list("pk", "ref"))
        if not refs:
            return 0
        PauseQueueEntry.objects.filter(pk__in=refs).update(
            **WAITING, attempts=F("attempts") + 1, losses=F("losses") + 1
        )
        audit.record_each(
            "parked", [(ref, {"entry": pk, "again": True}) for pk, ref in refs.items()], actor=SYSTEM, reason=reason
        )
    logger.warning("%d messages wait again: %s.", len(refs), reason)
    return len(refs)


@receiver(hold_changed)
def _drop_what_is_free(sender: object, scopes: list[str], actor: Actor, change: str, **_: object) -> None:
    """Whoever releases a capacity hold but the poll (an operator, the end of the run) ends the waiting too."""
    if change != "released":
        return
    still = set(Hold.objects.covering(scopes).filter(kind=Hold.Kind.CAPACITY).values_list("scope", flat=True))
    freed = [scope for scope in scopes if scope not in still]
    waiting = PauseQueueEntry.objects.waiting().filter(ref__in=freed)
    dropped = list(waiting.select_for_update())
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
