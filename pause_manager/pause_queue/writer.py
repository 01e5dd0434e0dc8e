"""The rows of the pause queue: every column of :class:`PauseQueueEntry` that is not its state.

The state is written by ``transitions`` alone, and messages are sent by ``delivery``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Count

from pause_manager import conf, holds
from pause_manager.actor import CAPACITY, SYSTEM, Actor
from pause_manager.capacity.needs import Needs
from pause_manager.database import batches
from pause_manager.messaging import broker
from pause_manager.models import Hold, PauseQueueEntry, RunningTask
from pause_manager.models.queue import PauseQueueQuerySet
from pause_manager.observability import audit
from pause_manager.pause_queue import transitions
from pause_manager.pause_queue.transitions import DROP, PARK, SEND, SEND_RUN
from pause_manager.scopes import is_run

logger = logging.getLogger("pause_manager.pause_queue.writer")

_ENTRY, _RUNNING = PauseQueueEntry._meta.db_table, RunningTask._meta.db_table

FORGET_CONTENT = f"""
    UPDATE {_ENTRY} SET body = NULL, envelope = NULL
     WHERE outcome = 'sent' AND confirmed_at IS NOT NULL AND id IN (SELECT entry_id FROM gone)
"""
"""After ``WITH gone AS (…)``: the tasks of these entries have ended, and nobody sends their messages again."""

VOID = "void:"
"""What the confirmation of a lost worker begins with."""

_VOID_CONFIRMATIONS = f"""
    UPDATE {_ENTRY} AS entry SET confirmed_by = '{VOID}' || run.turn
      FROM {_RUNNING} AS run
     WHERE run.id = ANY(%(rows)s) AND entry.id = run.entry_id AND entry.outcome = 'sent'
"""

_REVOKED = f"""
    UPDATE {_ENTRY} AS entry SET revoked_at = statement_timestamp(), waits_for = 'hold'
      FROM (SELECT id FROM {_ENTRY} AS waiting
             WHERE revoked_at IS NULL AND (finished_at IS NULL OR (outcome = 'sent' AND confirmed_at IS NULL))
               AND ref NOT LIKE 'run:%%'
               AND (ref = ANY(%(refs)s) OR (message IS NULL AND id = ANY(%(signatures)s)) OR EXISTS (
                   SELECT FROM jsonb_each(%(stamps)s::jsonb) AS revoked
                     JOIN jsonb_each(CASE WHEN jsonb_typeof(message -> 'headers' -> 'stamps') = 'object'
                                          THEN message -> 'headers' -> 'stamps' END) AS own ON own.key = revoked.key,
                          jsonb_array_elements(revoked.value) AS one
                    WHERE own.value @> one))
             ORDER BY id FOR UPDATE) AS marked
     WHERE entry.id = marked.id RETURNING entry.id, entry.ref
"""


@dataclass(frozen=True)
class WithheldDispatch:
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
    """Whose policy it continues by; empty: the fleet's."""
    work_queue: str = ""
    """The queue whose workers do the work, where its message goes to another; empty: to the same."""


def set_priority(ref: str, priority: int) -> None:
    """Give what waits for ``ref`` another priority, and with it another place; in the caller's transaction."""
    PauseQueueEntry.objects.waiting().filter(ref=ref).order_by().update(priority=priority)


def park(items: Sequence[WithheldDispatch], *, reason: str, details: dict[str, Any]) -> int:
    """Write an entry for each of ``items`` and hold those that are runs, in one transaction; returns how many wait.

    A ``ref`` that waits already keeps its entry, its time and its place. Raises ``RuntimeError``, having written
    nothing, if the number waiting is not the number given: work is never dropped in silence.
    """
    if not items:
        return 0
    refs = [item.ref for item in items]
    with transaction.atomic():
        scopes = [ref for ref in refs if is_run(ref)]
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


def close_as_sent(
    entry_ids: Sequence[int], *, actor: Actor, reason: str, details: Mapping[int, dict[str, Any]] | None = None
) -> list[PauseQueueEntry]:
    """The first half of ``send_on``: what is returned must be given to ``deliver`` after the commit."""
    with transaction.atomic():
        candidates = PauseQueueEntry.objects.waiting().filter(pk__in=entry_ids)
        # Runs before entries, as everywhere else, so that nobody waits for somebody who waits for him.
        holds.lock(_runs(candidates.values_list("ref", flat=True)))
        taken = list(candidates.light().with_wait().select_for_update(skip_locked=True))
        if broker.seems_away() and not all(entry.is_run for entry in taken):
            logger.warning("The broker is away: only runs continue.")
            taken = [entry for entry in taken if entry.is_run]
        if not taken:
            return []
        # The entries are closed before the holds, so that the release finds nothing left to close.
        for transition, some in ((SEND, False), (SEND_RUN, True)):
            if pks := [entry.pk for entry in taken if entry.is_run is some]:
                transitions.apply(transition, PauseQueueEntry.objects.filter(pk__in=pks))
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
            changes={entry.ref: (waiting_facts(entry), {"outcome": "sent"}) for entry in taken},
        )
    return taken


def _runs(refs: Iterable[str]) -> list[str]:
    return sorted(ref for ref in refs if is_run(ref))


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
    transitions.apply(DROP, waiting)
    audit.record_each(
        "dropped",
        [(entry.ref, {"entry": entry.pk}) for entry in dropped],
        actor=actor,
        reason="what held it was released",
        changes={entry.ref: (waiting_facts(entry), {"outcome": "dropped"}) for entry in dropped},
    )


def waiting_facts(entry: PauseQueueEntry) -> dict[str, Any]:
    """What an event records of an entry that waited."""
    return {"paused_at": entry.paused_at.isoformat(), "priority": entry.priority, "reason": entry.reason}


def park_message(
    entry_id: int | None, key: str, content: Mapping[str, Any], address: Mapping[str, Any]
) -> tuple[int, bool]:
    """Write a message into its entry, which waits again in its old place, or into a new one.

    Returns the key of the entry, and whether anything was written: a message is parked once by its ``key``. Raises
    ``RuntimeError`` if the entry is not one that was sent: no message is dropped in silence.
    """
    if entry_id is None:
        entry, is_new = PauseQueueEntry.objects.get_or_create(message_key=key, defaults={**content, **address})
        return entry.pk, is_new
    if not transitions.apply(PARK, PauseQueueEntry.objects.filter(pk=entry_id), **content):
        raise RuntimeError(f"Cannot park a message in entry {entry_id}: it was not sent from there.")
    return entry_id, True


def wait_for_capacity(entries: PauseQueueQuerySet) -> int:
    """Note that waiting ``entries``, which only a hold kept, wait for room now; returns how many."""
    of_holds = entries.filter(finished_at=None, waits_for=PauseQueueEntry.WaitsFor.HOLD, revoked_at=None)
    return of_holds.update(waits_for=PauseQueueEntry.WaitsFor.CAPACITY)


def answer(pks: Collection[int], answer: str) -> int:
    """Write what a person has decided about waiting entries that ask: from now on only a hold keeps them; how many."""
    asking = PauseQueueEntry.objects.filter(
        pk__in=pks, finished_at=None, waits_for=PauseQueueEntry.WaitsFor.ANSWER, revoked_at=None
    )
    return asking.update(answer=answer, waits_for=PauseQueueEntry.WaitsFor.HOLD)


def clear_problem(pks: Collection[int]) -> None:
    """Note that nothing is wrong with these entries any more."""
    PauseQueueEntry.objects.filter(pk__in=pks).update(problem="", resume_after=None)


def void_confirmations(rows: Collection[int]) -> None:
    """Let a redelivered message be confirmed again whose worker was lost: one of these rows of ``RunningTask``."""
    with connection.cursor() as cursor:
        cursor.execute(_VOID_CONFIRMATIONS, {"rows": list(rows)})


def mark_revoked(refs: Sequence[str], signatures: Sequence[int], stamps: Mapping[str, Sequence[str]]) -> int:
    """Note that the tasks of these refs, entries of signatures, or stamps were revoked; returns of how many entries.

    Of those that wait, or were sent on and not confirmed. What waits for room waits no longer: its end needs none.
    """
    values: dict[str, Any] = {"refs": list(refs), "signatures": list(signatures), "stamps": json.dumps(stamps)}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_REVOKED, values)
            rows = cursor.fetchall()
        audit.record_each(
            "revoked",
            [(ref, {"entry": pk}) for pk, ref in rows],
            actor=SYSTEM,
            reason="its task was revoked while it waited",
            changes={ref: ({"revoked": False}, {"revoked": True}) for _, ref in rows},
        )
    return len(rows)


def forget() -> int:
    """Delete what ended more than ``history_days`` ago, runs and what was dropped included; returns how many.

    A message that was sent on has ended when it was confirmed, and its task too, if it needs a row.
    """
    ended = "CASE WHEN outcome = 'sent' THEN confirmed_at ELSE finished_at END"
    before = "statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)"
    return batches.delete(
        _ENTRY,
        ended,
        f"""finished_at IS NOT NULL AND {ended} < {before}
            AND NOT EXISTS (SELECT 1 FROM {_RUNNING} AS task WHERE task.entry_id = old.id)""",
        {"days": conf.settings().history_days},
    )
