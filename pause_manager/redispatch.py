"""Sends on what waits for no hold any more, and again what was lost: the messages of the pause queue, once each."""

from __future__ import annotations

import logging
from datetime import timedelta

from celery import current_app
from django.db import connection, transaction
from django.db.models.functions import Now
from django.dispatch import receiver

from pause_manager import broker, conf, pause_queue, running
from pause_manager.actor import SYSTEM, Actor
from pause_manager.models import PauseQueueEntry, RunningTask
from pause_manager.signals import forced_on, hold_changed

logger = logging.getLogger("pause_manager.redispatch")

BATCH = 100
AT_ONCE = 500
"""How many are sent on by whoever releases a hold; the rest is left to the control worker."""
SEND_TASK = "pause_manager.send_kept"

_LOST = f"""
    SELECT id FROM {PauseQueueEntry._meta.db_table}
     WHERE queue = %(queue)s AND outcome = 'sent' AND answered_at IS NULL
       AND sent_at < statement_timestamp() - make_interval(secs => %(grace)s * 2 ^ least(losses, 6))
       AND (%(depth)s::int < (SELECT count(*) FROM {PauseQueueEntry._meta.db_table}
                               WHERE queue = %(queue)s AND outcome = 'sent' AND answered_at IS NULL
                                 AND sent_at < statement_timestamp() - make_interval(secs => %(grace)s))
            OR sent_at < statement_timestamp() - make_interval(secs => 60 * %(grace)s))
"""


def go_on(*, actor: Actor, reason: str, at_most: int | None = None) -> int:
    """Send on, in order of priority then age, what no hold covers any more; returns how many.

    With the broker away nothing is sent and everything waits on.
    """
    sent = 0
    while at_most is None or sent < at_most:
        ids = list(PauseQueueEntry.objects.free().values_list("pk", flat=True)[:BATCH])
        if not ids or not broker.is_reachable():
            break
        done = pause_queue.send_on(ids, actor=actor, reason=reason)
        sent += done
        if not done:
            break
    return sent


def reconcile() -> None:
    """Repair what is missing: tasks whose worker was lost, messages that were lost, and what is free and not sent."""
    with transaction.atomic():
        if not pause_queue.lock("slackwater kept"):
            return
        _give_up_lost_runs()
        pause_queue.reopen(PauseQueueEntry.objects.unanswered().filter(pk__in=_lost_messages()), "its message was lost")
    go_on(actor=SYSTEM, reason="nothing holds it any more")


def _give_up_lost_runs() -> None:
    """Delete the rows of lost processes; what acknowledges late and came from an entry is sent again from there.

    Of what never waited the broker has the message; what acknowledges early is lost with its worker, as ever.
    """
    gone = running.lost()
    again = [row.pk for row in gone if row.acks_late and row.entry_id is not None]
    # A message that comes again by itself takes the row out of its entry: then there is nothing to open.
    pause_queue.reopen(PauseQueueEntry.objects.filter(running__in=again), "its worker was lost")
    RunningTask.objects.filter(pk__in=[row.pk for row in gone]).delete()


def _lost_messages() -> list[int]:
    """The entries sent and not answered for longer than the grace time, where the broker holds fewer than are out."""
    found: list[int] = []
    grace = conf.settings().answer_grace_seconds
    old = PauseQueueEntry.objects.unanswered().filter(sent_at__lt=Now() - timedelta(seconds=grace))
    for queue in old.order_by().values_list("queue", flat=True).distinct():
        with connection.cursor() as cursor:
            cursor.execute(_LOST, {"queue": queue, "depth": broker.queue_depth(queue), "grace": grace})
            found += [row[0] for row in cursor.fetchall()]
    return found


def forget() -> int:
    """Delete the entries of messages that were answered more than ``history_days`` ago; returns how many."""
    old = Now() - timedelta(days=conf.settings().history_days)
    deleted, _ = PauseQueueEntry.objects.messages().filter(answered_at__lt=old, running=None).delete()
    return deleted


@receiver(hold_changed)
def _on_release(sender: object, scopes: list[str], actor: Actor, change: str, **_: object) -> None:
    if change == "released" and any(scope.partition(":")[0] in ("fleet", "queue", "node") for scope in scopes):
        transaction.on_commit(lambda: _send_after_release(actor))


def _send_after_release(actor: Actor) -> None:
    """The hold is gone whatever happens here; the poll sends what this leaves."""
    try:
        if go_on(actor=actor, reason="the hold was released", at_most=AT_ONCE) >= AT_ONCE:
            current_app.send_task(SEND_TASK, queue=conf.settings().control_queue, retry=False)
    except Exception:
        logger.exception("What the released hold kept was not all sent: the poll sends it.")


@receiver(forced_on)
def _on_forced(sender: object, refs: list[str], **_: object) -> None:
    """What an operator forces on is not kept again for want of room."""
    PauseQueueEntry.objects.waiting().filter(ref__in=refs).update(is_forced=True)
