"""Messages of pausable tasks in the pause queue: kept while held, sent on once, answered once, sent again if lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from pause_manager import audit, conf, manager, pause_queue, running
from pause_manager.actor import SYSTEM
from pause_manager.delivery import Delivery
from pause_manager.models import Hold, PauseQueueEntry, RunningTask
from pause_manager.needs import Needs
from pause_manager.probes import processes

logger = logging.getLogger("pause_manager.kept")

_COVERING = f"""
    SELECT scope, kind, reason FROM {Hold._meta.db_table}
     WHERE released_at IS NULL AND scope = ANY(%s) ORDER BY id FOR SHARE
"""


@dataclass(frozen=True)
class Turn:
    """A delivery that may run: its row, the entry that it answered, and the GPUs it was given."""

    row: int
    entry: int | None = None
    gpus: tuple[int, ...] = ()


def settle(delivery: Delivery) -> Turn | None:
    """Let ``delivery`` run, or keep its message until nothing stops it; ``None`` if it must not run now.

    The caller asks ``running.register`` whether the :class:`Turn` may start, and deletes its row in the end.

    One transaction: a message is kept, or its entry answered and its row written, before it is acknowledged. A second
    delivery of a message that was kept or answered ends here, unless the first one's process was lost at work.
    """
    with transaction.atomic():
        entry = None
        if delivery.entry is not None:
            entry = _entry_of(delivery.entry)
            if entry is None:
                logger.info("%s was delivered again: it has been answered.", delivery.ref)
                return None
        elif delivery.is_redelivered and _was_kept(delivery):
            logger.info("%s was delivered again: its message is kept.", delivery.ref)
            return None
        if (hold := _covering([*delivery.scopes, f"node:{processes.node_name()}"])) is not None:
            _keep(delivery, entry, hold)
            return None
        admitted: tuple[int, ...] | str = ()
        if delivery.needs is not None and not (entry and entry.is_forced):
            admitted = manager.admit_on(
                processes.node_name(),
                delivery.needs,
                pipeline=delivery.policy,
                newcomer=delivery.priority if entry is None else None,
            )
        if isinstance(admitted, str):
            _keep(delivery, entry, admitted)
            return None
        if entry is not None:
            PauseQueueEntry.objects.filter(pk=entry.pk).update(answered_at=Now(), losses=0)
        row = RunningTask.objects.create(
            task_id=delivery.task_id,
            task_name=delivery.task_name,
            queue=delivery.queue,
            node=processes.node_name(),
            worker=delivery.worker,
            owner=processes.identity(),
            acks_late=delivery.acks_late,
            priority=delivery.priority,
            needs=running.needs_as_json(delivery.needs),
            gpus=list(admitted),
            entry=entry,
        )
    return Turn(row.pk, entry.pk if entry else None, admitted)


def keep_rest(
    delivery: Delivery, turn: Turn, args: Sequence[Any], kwargs: Mapping[str, Any], *, reason: str, was_told: bool
) -> None:
    """Keep the rest of a task that leaves: the same message with other arguments, in place of the row of its run.

    ``was_told``: it leaves because a hold said so. If that hold has gone by now, the rest is sent on at once.
    """
    with transaction.atomic():
        deleted, _ = RunningTask.objects.filter(pk=turn.row).delete()
        if not deleted:
            logger.warning("%s was taken for lost and is run elsewhere: its rest is not kept.", delivery.ref)
            return
        entry = PauseQueueEntry.objects.select_for_update().get(pk=turn.entry) if turn.entry else None
        hold = _covering(delivery.scopes)
        pk = _keep(delivery, entry, hold or reason, args, kwargs)
        if was_told and hold is None:
            pause_queue.send_on([pk], actor=SYSTEM, reason="nothing holds it any more")


def _entry_of(named: tuple[int, int]) -> PauseQueueEntry | None:
    """The locked entry that a message names, if the message is the last one sent from it and is to be answered."""
    pk, sending = named
    sent = PauseQueueEntry.objects.select_for_update().filter(pk=pk, sending=sending, outcome="sent")
    entry = sent.first()
    if entry is None or entry.answered_at is None:
        return entry
    runs = list(entry.running.all())
    if not runs or not {run.pk for run in runs} <= {run.pk for run in running.lost()}:
        return None
    entry.running.all().delete()
    return entry


def _was_kept(delivery: Delivery) -> bool:
    if delivery.key:
        return PauseQueueEntry.objects.filter(message_key=delivery.key).exists()
    same = PauseQueueEntry.objects.filter(ref=delivery.ref, task_name=delivery.task_name, message__isnull=False)
    return same.filter(message__headers__retries=delivery.request.get("retries")).exists()


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


def _keep(
    delivery: Delivery,
    entry: PauseQueueEntry | None,
    reason: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> int:
    """Write the message into ``entry``, which then waits in its old place, or into a new one; the entry's id."""
    needs = delivery.needs
    waits_for_room = needs is not None and conf.settings().capacity
    values: dict[str, Any] = {
        "reason": reason,
        "kept_by": PauseQueueEntry.KeptBy.CAPACITY if waits_for_room else PauseQueueEntry.KeptBy.HOLD,
        "message": delivery.message(args, kwargs),
        "body": delivery.body(args, kwargs),
    }
    if entry is not None:
        PauseQueueEntry.objects.filter(pk=entry.pk).update(
            **values, **pause_queue.WAITING, attempts=F("attempts") + 1, losses=0, is_forced=False
        )
        pk = entry.pk
    else:
        kept, is_new = PauseQueueEntry.objects.get_or_create(
            message_key=delivery.key or f"no-tag:{uuid4()}",
            defaults={
                **values,
                "ref": delivery.ref,
                "task_name": delivery.task_name,
                "queue": delivery.queue,
                "priority": delivery.priority,
                "needs": asdict(needs or Needs(cpu=0)),
                "pipeline": delivery.policy,
            },
        )
        pk = kept.pk
        if not is_new:
            return pk
    audit.record("parked", scope=delivery.ref, actor=SYSTEM, reason=reason, figures={"entry": pk})
    return pk


def take_up(named: tuple[int, int], key: str, *, is_redelivered: bool) -> bool:
    """Answer the entry of a message whose task answers for nothing itself; False if another message has answered it.

    ``key`` is the broker's own name for the message, the same when it is delivered again: what is redelivered after a
    crash is taken up again, as any message would be.
    """
    pk, sending = named
    is_this = Q(answered_by=key) if key or is_redelivered else Q(pk=None)
    sent = PauseQueueEntry.objects.filter(Q(answered_at=None) | is_this, pk=pk, sending=sending, outcome="sent")
    return bool(sent.update(answered_at=Coalesce("answered_at", Now()), answered_by=key, losses=0))


def close(named: tuple[int, int]) -> None:
    """A worker has thrown the message away by Celery's own rules (revoked, expired, unknown): nobody will run it."""
    pk, sending = named
    PauseQueueEntry.objects.unanswered().filter(pk=pk, sending=sending).update(answered_at=Now())
