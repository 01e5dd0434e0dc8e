"""Messages of tasks in the pause queue: parked while held, admitted when they come back.

Whatever is written here is written under the turn of a delivery, and may be written again by the same turn: when the
answer to a COMMIT is lost, the second try finds the first one's work and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import pause_queue
from pause_manager.actor import SYSTEM, Actor
from pause_manager.capacity.needs import Needs
from pause_manager.messaging.message import Delivery
from pause_manager.messaging.readable import clean, readable
from pause_manager.messaging.remainder import Remainder
from pause_manager.models import Hold, PauseQueueEntry, RunningTask
from pause_manager.nodes import watching
from pause_manager.nodes.machines import identity
from pause_manager.observability import audit
from pause_manager.pausable import places, running_tasks
from pause_manager.pausable.confirmations import UNTAGGED, came_back_dead
from pause_manager.pause_queue import transitions, writer
from pause_manager.pause_queue.transitions import CONFIRM
from pause_manager.resources import places as resource_places
from pause_manager.resources import throttle

logger = logging.getLogger("pause_manager.pausable.parked_messages")

_SAME_MESSAGE = timedelta(minutes=10)
"""For so long a message without a name that comes again, with the id of one that was parked, is taken for that one.

Only a sender without us gives it none (see ``message_ids``). Longer would take the next use of an id for the last.
"""

_COVERING = f"""
    SELECT scope, kind, reason FROM {Hold._meta.db_table}
     WHERE released_at IS NULL AND scope = ANY(%s) ORDER BY id FOR SHARE
"""


@dataclass(frozen=True)
class Permit:
    """The permission of a delivery to run. ``row`` is the row that says so; none if nobody needs to find it."""

    id: UUID
    row: int | None = None
    entry: int | None = None
    gpus: tuple[str, ...] = ()
    failure: Mapping[str, Any] | None = None
    """What a person has decided that it fails with, instead of running."""
    is_revoked: bool = False
    """It may not run: its task was revoked while it waited. Nothing is written; what ends it closes the entry."""


class RunningElsewhere(Exception):
    """Another delivery of the same message runs, or is about to: whether it ends or is lost shows later."""


def admit(delivery: Delivery) -> Permit | None:
    """Let ``delivery`` run, or park its message until nothing stops it; ``None`` if it must not run now.

    One transaction, before the message is acknowledged:

    1. What this turn has written before stands.
    2. A message of an entry that was confirmed, and one that was parked, end here. While the delivery that confirmed
       it has its row, this one waits (``RunningElsewhere``): the other may end, or be lost before the task's first
       line. What a dead-letter exchange has routed back after its entry was confirmed is a message like any other.
    3. If it is held, it is parked, in the place that it had.
    4. If it needs room and there is none, or a resource that it uses has no place for it, it is parked too. For a start
       that is near it waits where it is (``NotYet``).
    5. Else its entry is confirmed, and a row says that it runs if somebody must be able to find it: the one that
       counts what it needs, or the one that sends its entry again should this worker be lost.
    """
    with _bounded():
        locked = resource_places.take_share(delivery.uses) if delivery.uses else []
        row = RunningTask.objects.filter(turn=delivery.turn).first()
        if row is not None:
            failure = _failure(row.entry) if row.entry is not None else None
            return Permit(delivery.turn, row.pk, row.entry_id, tuple(map(str, row.gpus)), failure)
        entry = None
        if delivery.entry is not None:
            entry = _entry_of(delivery.entry, delivery)
            if entry is None and (not came_back_dead(delivery.entry, delivery.headers) or _was_parked(delivery)):
                logger.info("%s was delivered again: it has been confirmed.", delivery.ref)
                return None
            if entry is not None and entry.revoked_at is not None:
                return Permit(delivery.turn, is_revoked=True)
        elif _was_parked(delivery):
            logger.info("%s was delivered again: its message is parked.", delivery.ref)
            return None
        node = identity.name(stays=True)
        if (hold := _covering([*delivery.scopes, f"node:{node}"])) is not None:
            _park(delivery, entry, hold)
            return None
        failure = _failure(entry) if entry is not None else None
        if failure is not None:
            # It runs no line of its task: it needs no room and uses nothing.
            delivery = replace(delivery, runs_nothing=True)
        before = places.before(delivery, entry)
        admitted: tuple[str, ...] | str = ()
        if delivery.needs is not None and not (entry and entry.is_forced):
            admitted = places.admit(delivery, delivery.needs, entry, before, node)
        if isinstance(admitted, str):
            _park(delivery, entry, admitted)
            return None
        if delivery.uses and (short := resource_places.shortage(delivery.uses, locked)) is not None:
            _park(delivery, entry, short.sentence, seconds=short.seconds)
            return None
        if entry is None and delivery.needs is None and not delivery.uses:
            return Permit(delivery.turn)
        places.give_up(before)
        if entry is not None:
            sent = PauseQueueEntry.objects.filter(pk=entry.pk)
            transitions.apply(CONFIRM, sent, confirmed_at=Now(), confirmed_by=str(delivery.turn))
        pk = running_tasks.begin(delivery, node=node, gpus=admitted, entry=entry)
    return Permit(delivery.turn, pk, entry.pk if entry else None, admitted, failure)


def park_remainder(delivery: Delivery, permit: Permit | None, rest: Remainder) -> None:
    """Park the rest of a task that leaves: the same message with other arguments, in place of the row of its run.

    If it leaves because of a hold that has been released since, the rest is sent on at once. If a resource said "too
    much" to it, that is held first.
    """
    if rest.too_much is not None:
        name, seconds = rest.too_much
        actor = Actor(f"task:{delivery.task_name}", "worker")
        throttle(name, seconds, actor=actor, told=f"task {delivery.task_name}")
    with _bounded():
        entry = None
        if permit is not None and permit.row is not None:
            if not running_tasks.end(permit.id):
                logger.warning("%s was parked already, or taken for lost and is run elsewhere.", delivery.ref)
                return
            entry = _locked(permit.entry)
        key = delivery.key or f"{UNTAGGED}{delivery.turn}"
        if rest.failure is not None:
            tries = rest.failure["tries"]
            why = f"It has failed {'once' if tries == 1 else f'{tries} times'}: {rest.failure['error']}"
            _park(delivery.left_with(rest), entry, clean(why), key=key, failure=rest.failure)
            return
        hold = _covering(delivery.scopes)
        pk = _park(delivery.left_with(rest), entry, hold or clean(rest.reason), key=key)
        if rest.was_held and hold is None:
            pause_queue.send_on([pk], actor=SYSTEM, reason="nothing holds it any more")


def park_again(delivery: Delivery, permit: Permit) -> None:
    """Park the message again, in its place: a hold came between the permit and the task's first line."""
    with _bounded():
        entry = None
        if permit.row is not None:
            if not running_tasks.end(permit.id):
                return
            entry = _locked(permit.entry)
        hold = _covering([*delivery.scopes, f"node:{identity.name()}"])
        key = delivery.key or f"{UNTAGGED}{delivery.turn}"
        pk = _park(delivery, entry, hold or "a hold that has been released", key=key)
        if hold is None:
            pause_queue.send_on([pk], actor=SYSTEM, reason="nothing holds it any more")


def park_unknown(delivery: Delivery, reason: str) -> None:
    """Park a message that never waited and whose task its worker does not know, for one that does, or for a person."""
    with _bounded():
        if not _was_parked(delivery):
            _park(delivery, None, reason, problem=PauseQueueEntry.Problem.UNKNOWN_TASK)


@contextmanager
def _bounded() -> Iterator[None]:
    """A transaction that waits for no lock for long: the process that decides about messages has others waiting."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")
        yield


def _locked(pk: int | None) -> PauseQueueEntry | None:
    """The entry, without what may be large."""
    return None if pk is None else PauseQueueEntry.objects.select_for_update().light().get(pk=pk)


def _entry_of(named: tuple[int, int], delivery: Delivery) -> PauseQueueEntry | None:
    """The locked entry that a message names, if the message is the last one sent from it and is to be confirmed."""
    pk, generation = named
    sent = PauseQueueEntry.objects.select_for_update().filter(pk=pk, generation=generation, outcome="sent")
    entry = sent.defer("body", "envelope").first()
    if entry is None or entry.confirmed_at is None or entry.confirmed_by == str(delivery.turn):
        return entry
    runs = list(entry.running.at_work())
    if not runs:
        # Who had begun with it has acknowledged it, and the broker delivers that no more.
        return entry if delivery.is_redelivered and entry.confirmed_by.startswith(writer.VOID) else None
    if not {run.pk for run in runs} <= {run.pk for run in running_tasks.lost()}:
        raise RunningElsewhere
    running_tasks.mark_lost(runs)
    return entry


def _was_parked(delivery: Delivery) -> bool:
    """Whether this message, or a delivery of it before this one, is in the pause queue or was sent on from it."""
    # The tag alone is how releases before this one have named it.
    names = [name for name in (delivery.key, delivery.tag) if name] or [f"{UNTAGGED}{delivery.turn}"]
    entries = PauseQueueEntry.objects.filter(message_key__in=names)
    if delivery.key or not delivery.is_redelivered:
        return entries.exists()
    # Nobody has named it: it is the one that was parked lately, unless its id is used again and again.
    same = PauseQueueEntry.objects.filter(ref=delivery.ref, task_name=delivery.task_name, message__isnull=False)
    same = same.filter(message__headers__retries=delivery.headers.get("retries"))
    return entries.exists() or same.filter(paused_at__gt=Now() - _SAME_MESSAGE).exists()


def _covering(scopes: Sequence[str]) -> str | None:
    """The sentence of a hold on any of ``scopes``, which cannot be released before this transaction has ended."""
    with connection.cursor() as cursor:
        # All of them: one that is being released while we wait must not hide another.
        cursor.execute(_COVERING, [list(scopes)])
        rows = cursor.fetchall()
    if not rows:
        return None
    scope, kind, reason = rows[0]
    return f"{kind} hold on {scope}: {reason}" if reason else f"{kind} hold on {scope}"


def _park(
    delivery: Delivery,
    entry: PauseQueueEntry | None,
    reason: str,
    *,
    key: str = "",
    problem: str = "",
    seconds: float | None = None,
    failure: Mapping[str, Any] | None = None,
) -> int:
    """Write the message into ``entry``, which then waits in its old place, or into a new one; the entry's key.

    With ``seconds`` it waits for so long at least; with a ``failure`` for a person to decide about it. What was decided
    and has not been done yet stays.
    """
    needs = delivery.needs
    waits_for_room = needs is not None and watching.is_watched()
    asked: dict[str, Any] = {}
    if failure is not None:
        asked = {"failure": readable(failure), "answer": "", "waits_for": PauseQueueEntry.WaitsFor.ANSWER}
    content: dict[str, Any] = {
        "reason": reason,
        "waits_for": PauseQueueEntry.WaitsFor.CAPACITY if waits_for_room else PauseQueueEntry.WaitsFor.HOLD,
        "message": delivery.message(),
        "envelope": delivery.envelope(),
        "body": delivery.body,
        "expires_at": delivery.expires_at,
        "resume_after": None if seconds is None else Now() + timedelta(seconds=seconds),
        **asked,
    }
    address: dict[str, Any] = {
        "ref": delivery.ref,
        "task_name": clean(delivery.task_name),
        "queue": clean(delivery.short_queue),
        "work_queue": clean(delivery.short_queue),
        "priority": delivery.priority,
        "needs": asdict(needs or Needs(cpu=0)),
        "pipeline": delivery.policy,
        "uses": list(delivery.uses),
        "problem": problem,
    }
    key = key or delivery.key or f"{UNTAGGED}{delivery.turn}"
    pk, is_written = writer.park_message(entry.pk if entry is not None else None, key, content, address)
    if is_written:
        audit.record("parked", scope=delivery.ref, actor=SYSTEM, reason=reason, details={"entry": pk})
    return pk


def _failure(entry: PauseQueueEntry) -> Mapping[str, Any] | None:
    """What a person has decided that the task of ``entry`` fails with."""
    failure: Mapping[str, Any] | None = entry.failure if entry.answer == PauseQueueEntry.Answer.FAIL else None
    return failure
