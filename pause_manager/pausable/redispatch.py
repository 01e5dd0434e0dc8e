"""Sends on what waits for no hold any more, and again what was lost: the messages of the pause queue, once each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from pause_manager import conf, database, pause_queue
from pause_manager.actor import SYSTEM, Actor
from pause_manager.database import advisory_locks
from pause_manager.messaging import broker, outgoing
from pause_manager.models import FleetWorker, PauseQueueEntry, RunningTask
from pause_manager.models.clock import database_now
from pause_manager.nodes import known_tasks, members, watching
from pause_manager.observability import audit
from pause_manager.pausable import running_tasks
from pause_manager.pause_queue import writer
from pause_manager.resources import places

logger = logging.getLogger("pause_manager.pausable.redispatch")

BATCH = 100
AT_ONCE = 500
"""How many the process that releases a hold sends on; the rest is left to the control worker."""
MOMENT_SECONDS = 1.0
"""How long the releaser of a hold waits for the broker at the most."""
MOST_IN_VAIN = 3
"""After this number of batches of which the broker took nothing the rest is left to the next poll."""
SEND_TASK = "pause_manager.send_kept"

_ENTRY = PauseQueueEntry._meta.db_table
_WORKER = FleetWorker._meta.db_table

_OUT = f"""
    SELECT queue, min(sent_at) FROM {_ENTRY}
     WHERE outcome = 'sent' AND confirmed_at IS NULL GROUP BY queue
    HAVING min(sent_at) < statement_timestamp() - make_interval(secs => %(grace)s)
"""

# What lives was, when the queue was counted, either in it or in the hand of a worker that has reported since.
_HANDS = f"""
    SELECT coalesce(sum(CASE WHEN jsonb_typeof(in_hand -> %(queue)s -> 1) = 'number'
                             THEN (in_hand -> %(queue)s ->> 1)::bigint ELSE 0 END), 0),
           coalesce(bool_and(last_seen_at > %(counted_at)s), true)
      FROM {_WORKER}
     WHERE last_seen_at >= statement_timestamp() - make_interval(secs => %(gone)s)
       AND (serves ? %(queue)s OR in_hand ? %(queue)s)
"""

_LOST = f"""
    WITH old AS (
        SELECT id, sent_at, losses FROM {_ENTRY}
         WHERE queue = %(queue)s AND outcome = 'sent' AND confirmed_at IS NULL
           AND sent_at < %(counted_at)s - make_interval(secs => %(grace)s)
    ), late AS (
        SELECT id, sent_at, sent_at < %(counted_at)s - make_interval(secs => 360 * %(grace)s * 2 ^ least(losses, 6))
                            AS is_long_ago
          FROM old WHERE sent_at < %(counted_at)s - make_interval(secs => %(grace)s * 2 ^ least(losses, 6))
    )
    SELECT id FROM late ORDER BY sent_at, id
     LIMIT greatest(0, (SELECT count(*) FROM old) - %(depth)s - %(received)s,
                       (SELECT count(*) FROM late WHERE is_long_ago) - %(received)s)
"""


def dispatch_released(
    *, actor: Actor, reason: str, at_most: int | None = None, within: float = broker.SECONDS, until: float | None = None
) -> int:
    """Send on, in order of priority then age, what no hold covers any more; returns how many the broker took.

    With the broker away nothing is sent and everything waits on. It ends when the broker takes nothing more, after
    ``at_most``, or at ``until`` (monotonic), and waits for no single answer longer than ``within`` seconds.
    """
    ids = _free()
    if not ids:
        return 0
    try:
        with broker.sender(within) as sender:
            taken = _dispatch(ids, sender, actor, reason, at_most, until)
            if at_most is not None and taken >= at_most:
                queue = conf.settings().control_queue
                rest = outgoing.task_message(SEND_TASK, (), {}, task_id=str(uuid4()), queue=queue, headers={})
                sender.publish([rest], until=until)
            return taken
    except broker.BrokerAway as error:
        logger.warning("The broker is away (%s): what is free waits on.", error)
        return 0


def _dispatch(
    ids: list[int], sender: broker.Sender, actor: Actor, reason: str, at_most: int | None, until: float | None
) -> int:
    taken = in_vain = 0
    while ids and (at_most is None or taken < at_most) and (until is None or time.monotonic() < until):
        sent = pause_queue.close_as_sent(ids, actor=actor, reason=reason)
        took = pause_queue.deliver(sent, by=sender, until=until)
        taken += took
        # What was refused waits alone, and what comes after it may be taken; a broker that takes nothing is let alone.
        in_vain = 0 if took else in_vain + 1
        if not sent or sender.is_gone or in_vain == MOST_IN_VAIN:
            break
        ids = _free()
    return taken


def _free(uses_any: bool = False) -> list[int]:
    """The first that nothing keeps, no more of each resource than it has places for; of those that use one only."""
    free = PauseQueueEntry.objects.free()
    if uses_any:
        free = free.exclude(uses=[])
    left = places.to_send()
    if full := [name for name, count in left.items() if not count]:
        free = free.exclude(uses__overlap=full)
    found = []
    for pk, uses in free.values_list("pk", "uses")[:BATCH]:
        if all(left.get(name, 1) for name in uses):
            found.append(pk)
            left |= {name: left[name] - 1 for name in uses if name in left}
    return found


def send_for_places() -> None:
    """Tasks that used resources have ended: send on what waits for their places. The poll does what this leaves."""
    if not _free(uses_any=True):
        return
    try:
        with broker.sender(MOMENT_SECONDS) as sender:
            sent = pause_queue.close_as_sent(_free(uses_any=True), actor=SYSTEM, reason="its resources have a place")
            pause_queue.deliver(sent, by=sender, until=time.monotonic() + MOMENT_SECONDS)
    except broker.BrokerAway as error:
        logger.warning("The broker is away (%s): what waits for a resource waits on.", error)


def reconcile() -> None:
    """Repair what is missing: tasks whose worker was lost, messages that were lost, and what is free and not sent.

    Never raises: each part is on its own, so that none keeps another, or the poll after it, from being done.
    """
    for part in (
        _look_for_the_broker,
        _give_up_lost_runs,
        _send_lost_again,
        _send_what_is_known_again,
        _send_expired,
        _send_free,
    ):
        try:
            part()
        except Exception as error:
            if database.is_away(error):
                logger.warning("The database is away (%s): %s is done later.", error, part.__name__.strip("_"))
                connection.close_if_unusable_or_obsolete()
            else:
                logger.exception("Part %s of the repair failed; the others are done.", part.__name__.strip("_"))


def _look_for_the_broker() -> None:
    """So that the poll, which asks nobody inside its transaction, knows whether messages could be sent."""
    # In their order, so that the first is found by the index.
    if PauseQueueEntry.objects.waiting().messages().values_list("pk", flat=True).first() is not None:
        broker.is_reachable()


def _one_at_a_time(part: Callable[[], None]) -> None:
    with transaction.atomic():
        if advisory_locks.lock("slackwater kept"):
            part()


def _send_free() -> None:
    dispatch_released(actor=SYSTEM, reason="nothing holds it any more")


def _give_up_lost_runs() -> None:
    """Give up the runs of lost processes; what acknowledges late and came from an entry is sent again from there.

    It keeps its place on its node for ``KEEPS_PLACE_SECONDS`` and need not queue until then. Of what never waited the
    broker has the message. What acknowledges early is lost with its worker, as ever, if it had begun; if it had not,
    the broker still has its message, and who gets that finds that its confirmation is void.
    """
    _one_at_a_time(_end_lost_runs)


def _end_lost_runs() -> None:
    gone = running_tasks.lost()
    again = [row.pk for row in gone if row.acks_late and row.entry_id is not None]
    # A message that comes again by itself takes the row out of its entry: then there is nothing to open.
    pause_queue.reopen(PauseQueueEntry.objects.filter(running__in=again), "its worker was lost", keeps_place=True)
    early = [row.pk for row in gone if not row.acks_late and row.entry_id is not None]
    writer.void_confirmations(early)
    running_tasks.mark_lost(gone)
    _end_places()


def _end_places() -> None:
    """What was lost and has not come again in time keeps its place no longer: it waits for room like anybody."""
    over = list(RunningTask.objects.out_of_place().values_list("pk", "entry"))
    if not over:
        return
    if watching.is_watched():
        writer.wait_for_capacity(PauseQueueEntry.objects.filter(pk__in=[entry for _, entry in over if entry]))
    running_tasks.forget([pk for pk, _ in over])


@dataclass(frozen=True)
class _Count:
    """How many messages were in a queue of the broker, and when, by the database's clock."""

    counted_at: datetime
    depth: int


_counts: dict[str, _Count] = {}
"""Of queues with messages that are overdue, until each worker of the queue has reported what it has in hand."""


def _send_lost_again() -> None:
    """Let the messages wait again that are neither in the broker's queue nor in the hand of a worker that lives."""
    grace = conf.settings().answer_grace_seconds
    with connection.cursor() as cursor:
        cursor.execute(_OUT, {"grace": grace})
        queues = [row[0] for row in cursor.fetchall()]
    for queue in set(_counts) - set(queues):
        del _counts[queue]
    for queue in queues:
        counted_at = database_now()
        depth = broker.queue_depth(queue)
        if depth is None:
            return  # The broker is away, and so is what it holds.
        count = _counts.setdefault(queue, _Count(counted_at, depth))
        if _reopen_lost(queue, count, grace):
            _counts[queue] = _Count(counted_at, depth)


def _reopen_lost(queue: str, count: _Count, grace: float) -> bool:
    """Reopen what was lost before ``count``, as far as that can be told yet; whether it could."""
    values: dict[str, Any] = {
        "queue": queue,
        "counted_at": count.counted_at,
        "depth": count.depth,
        "grace": grace,
        "gone": members.gone_seconds(),
    }
    with transaction.atomic():
        if not advisory_locks.lock("slackwater kept"):
            return False
        with connection.cursor() as cursor:
            cursor.execute(_HANDS, values)
            received, have_reported = cursor.fetchone()
            if not have_reported:
                return False
            cursor.execute(_LOST, {**values, "received": received})
            lost = [row[0] for row in cursor.fetchall()]
        if lost:
            pause_queue.reopen(PauseQueueEntry.objects.unconfirmed().filter(pk__in=lost), "its message was lost")
    return True


def _send_what_is_known_again() -> None:
    """Free the entries whose task nobody knew and a live worker that serves their queue knows now."""
    is_due = Q(resume_after=None) | Q(resume_after__lte=Now())
    unknown = (
        PauseQueueEntry.objects.waiting().order_by("pk").filter(is_due, problem=PauseQueueEntry.Problem.UNKNOWN_TASK)
    )
    if not unknown.exists():
        return
    known = known_tasks.names_by_queue()
    with transaction.atomic():
        rows = unknown.select_for_update(skip_locked=True).values_list("pk", "ref", "queue", "task_name", "reason")
        found = [row for row in rows[: 10 * BATCH] if row[3] in known.get(row[2], ())]
        writer.clear_problem([row[0] for row in found])
        audit.record_each(
            "known_again",
            [(ref, {"entry": pk, "task": name, "queue": queue}) for pk, ref, queue, name, _ in found],
            actor=SYSTEM,
            reason="a live worker of its queue knows its task",
            changes={ref: ({"problem": "unknown_task", "reason": why}, {"problem": ""}) for _, ref, _, _, why in found},
        )


def _send_expired() -> None:
    """Send the messages on whose time to run is over, whatever holds them, and close their entries as expired.

    A worker discards such a message by Celery's own rules: it acknowledges it, tells the result backend ``REVOKED``
    and sends ``task_revoked``. So nobody who waits for the result waits forever, and we need not know the backend.
    The message goes as one that never waited. It goes first and the entry is closed then: one that is sent twice,
    because somebody died in between, is discarded twice. While its queue is held it is in the queue, as it would be
    without us, and is discarded after the release.
    """
    expired = PauseQueueEntry.objects.filter(finished_at=None, expires_at__lte=Now()).order_by("expires_at", "pk")
    if not expired.exists():
        return
    with broker.sender() as sender:
        while found := list(expired[: pause_queue.BODIES_AT_ONCE]):
            closed = pause_queue.let_expire(found, sender)
            if closed < len(found):
                return


def send_after_release(actor: Actor) -> None:
    """The hold is gone whatever happens here; the poll sends what this leaves."""
    try:
        dispatch_released(
            actor=actor,
            reason="the hold was released",
            at_most=AT_ONCE,
            within=MOMENT_SECONDS,
            until=time.monotonic() + MOMENT_SECONDS,
        )
    except Exception:
        logger.exception("What the released hold kept was not all sent: the poll sends it.")
