"""Tasks that failed for good: what is kept of them, and how a person has one run again. Writes ``FailedTask``.

A task that is retried goes through the pause queue as any message that waited: it obeys the holds, waits for room, and
no message of it is lost while the broker is away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery.utils.saferepr import saferepr
from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import conf, pause_queue
from pause_manager.actor import Actor
from pause_manager.capacity.needs import Needs
from pause_manager.database import batches
from pause_manager.errors import PauseManagerError
from pause_manager.messaging import envelope
from pause_manager.messaging.message import Delivery, ref_of
from pause_manager.messaging.readable import clean
from pause_manager.messaging.remainder import Remainder
from pause_manager.models import FailedTask, PauseQueueEntry
from pause_manager.observability import audit
from pause_manager.pausable.running_tasks import needs_as_json
from pause_manager.pause_queue import writer

MOST_KEPT = 10_000
"""The newest; what failed before is deleted."""
LARGEST_BODY = 32 * 1024
"""Of a larger message only that it failed is kept: it cannot be retried from here."""
LONGEST_ERROR, LONGEST_TRACEBACK = 2_000, 8_000
JSON_TYPE = "application/json"

_FAILED = FailedTask._meta.db_table

_TRIM = f"""
    DELETE FROM {_FAILED} WHERE id <= (SELECT id FROM {_FAILED} ORDER BY id DESC OFFSET %(most)s LIMIT 1)
"""


class RetryRefused(PauseManagerError):
    """A failed task cannot be retried; nothing was changed."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call, as JSON has them."""

    args: list[Any]
    kwargs: dict[str, Any]


def row_of(
    delivery: Delivery, call: tuple[Sequence[Any], Mapping[str, Any], Mapping[str, Any]], error: BaseException, tb: str
) -> FailedTask:
    """What is kept of ``delivery``, a ``call`` (arguments, and what follows it) that failed with ``error``.

    What runs again is told its links and the rest of its chain, and belongs to no group and no chord any more: those
    have counted it as failed.
    """
    args, kwargs, embedded = call
    links = {name: embedded.get(name) for name in ("callbacks", "errbacks", "chain")}
    rest = Remainder.of(
        delivery.task, links, args, kwargs, content_type=delivery.content_type, reason="", was_held=False
    )
    again = delivery.left_with(rest)
    dropped = dict.fromkeys(("group", "group_index", "expires", "eta"))
    again = replace(again, headers={**again.headers, **dropped, "retries": 0}, groups=())
    is_small = len(rest.body) <= LARGEST_BODY
    text = str(error)
    return FailedTask(
        task_id=clean(delivery.task_id),
        task_name=clean(delivery.task_name),
        queue=clean(delivery.short_queue),
        worker=clean(delivery.worker),
        turn=delivery.turn,
        tries=int(delivery.headers.get("retries") or 0) + 1,
        error_class=type(error).__name__,
        error=clean(text)[:LONGEST_ERROR],
        traceback=clean(tb)[-LONGEST_TRACEBACK:],
        args_text=clean(rest.argsrepr),
        kwargs_text=clean(rest.kwargsrepr),
        priority=delivery.priority,
        needs=needs_as_json(delivery.needs or Needs(cpu=0)),
        uses=list(delivery.uses),
        policy=delivery.policy,
        message=again.message() if is_small else None,
        envelope=again.envelope() if is_small else None,
        body=rest.body if is_small else None,
    )


def write(rows: Sequence[FailedTask]) -> None:
    """Keep ``rows``, each once, and no more than the newest ``MOST_KEPT`` of all."""
    FailedTask.objects.bulk_create(rows, ignore_conflicts=True)
    with connection.cursor() as cursor:
        cursor.execute(_TRIM, {"most": MOST_KEPT})


def forget() -> int:
    """Delete what failed more than ``history_days`` ago; returns how many."""
    before = "statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)"
    return batches.delete(_FAILED, "failed_at", f"failed_at < {before}", {"days": conf.settings().history_days})


def arguments_of(row: FailedTask) -> Arguments | None:
    """The arguments as JSON, to be changed; ``None`` if they were not kept, or not serialised as JSON."""
    if row.body is None or (row.message or {}).get("content_type") != JSON_TYPE:
        return None
    try:
        args, kwargs, _ = json.loads(bytes(row.body))
    except ValueError:
        return None
    return Arguments(args, kwargs) if isinstance(args, list) and isinstance(kwargs, dict) else None


def retry(pk: int, *, actor: Actor, reason: str = "", changed: Arguments | None = None) -> int:
    """Have a failed task run again, once, under its id, with ``changed`` arguments or its own; its entry's key.

    Holds and capacity are obeyed: it waits in the pause queue where they keep it. Raises ``RetryRefused``.
    """
    with transaction.atomic():
        if not FailedTask.objects.filter(pk=pk, retried_at=None).update(retried_at=Now(), retried_by=actor.name):
            known = FailedTask.objects.filter(pk=pk).first()
            fact = "it is not kept any more" if known is None else f"{known.retried_by} has retried it already"
            raise RetryRefused(f"Cannot retry failed task {pk}: {fact}.")
        row = FailedTask.objects.get(pk=pk)
        if row.envelope is None or row.body is None:
            raise RetryRefused(f"Cannot retry {row.task_name}: its arguments are too large to be kept.")
        content = _content(row, changed)
        entry, _ = writer.park_message(None, f"retry:{pk}", content, _address(row))
        details = {"failed_task": pk, "entry": entry, "task": row.task_name, "arguments_changed": changed is not None}
        audit.record("task_retried", scope=ref_of(row.task_id), actor=actor, reason=reason, details=details)
    free = PauseQueueEntry.objects.free().filter(pk=entry)
    pause_queue.send_on(list(free.values_list("pk", flat=True)), actor=actor, reason=reason or "retried")
    return entry


def _content(row: FailedTask, changed: Arguments | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "reason": "a person has it run again after it failed",
        "waits_for": PauseQueueEntry.WaitsFor.HOLD,
        "message": row.message,
        "envelope": row.envelope,
        "body": row.body,
    }
    if changed is None:
        return content
    if arguments_of(row) is None:
        raise RetryRefused(f"Cannot change the arguments of {row.task_name}: they are not serialised as JSON.")
    assert row.body is not None
    assert row.envelope is not None
    _, _, links = json.loads(bytes(row.body))
    texts = {"argsrepr": clean(saferepr(changed.args, 1024)), "kwargsrepr": clean(saferepr(changed.kwargs, 1024))}
    whole = envelope.load(bytes(row.envelope))
    told = row.message or {}
    return content | {
        "message": {**told, "headers": {**told.get("headers", {}), **texts}},
        "envelope": envelope.dump({**whole, "headers": {**whole["headers"], **texts}}),
        "body": json.dumps([changed.args, changed.kwargs, links]).encode(),
    }


def _address(row: FailedTask) -> dict[str, Any]:
    return {
        "ref": ref_of(row.task_id),
        "task_name": row.task_name,
        "queue": row.queue,
        "work_queue": row.queue,
        "priority": row.priority,
        "needs": row.needs,
        "pipeline": row.policy,
        "uses": row.uses,
    }
