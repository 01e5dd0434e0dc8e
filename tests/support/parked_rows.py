"""Entries of kept messages as a worker writes them, without one."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import connection
from django.db.models.functions import Now

from pause_manager.messaging import envelope
from pause_manager.models import PauseQueueEntry

QUEUE = "foreign"


def keep(count: int = 1, *, queue: str = QUEUE, task: str = "add", **values: Any) -> list[PauseQueueEntry]:
    """So many messages of a task of the foreign project that only a hold has kept."""
    return PauseQueueEntry.objects.bulk_create([_kept(number, queue, task, dict(values)) for number in range(count)])


def _kept(number: int, queue: str, task: str, values: dict[str, Any]) -> PauseQueueEntry:
    task_id = str(uuid4())
    name = f"tests.foreign.tasks.{task}"
    message = {
        "headers": {
            "lang": "py",
            "task": name,
            "id": task_id,
            "root_id": task_id,
            "retries": 0,
            "expires": None,
            **values.pop("headers", {}),
        },
        "properties": {"correlation_id": task_id, "delivery_mode": 2, "priority": 3},
        "exchange": values.pop("exchange", ""),
        "routing_key": values.pop("routing_key", queue),
        "queue": queue,
        "content_type": "application/json",
        "content_encoding": "utf-8",
    }
    body = [[number, 1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return PauseQueueEntry(
        ref=f"task:{task_id}",
        task_name=name,
        queue=queue,
        needs={},
        reason="the fleet is held",
        waits_for=values.pop("waits_for", PauseQueueEntry.WaitsFor.HOLD),
        message={"headers": {"task": name, "id": task_id}},
        envelope=envelope.dump(message),
        body=json.dumps(body).encode(),
        message_key=str(uuid4()),
        **values,
    )


def were_sent(seconds_ago: float) -> None:
    """As if everything that was sent on had been so long ago."""
    PauseQueueEntry.objects.filter(outcome="sent").update(sent_at=Now() - timedelta(seconds=seconds_ago))


def in_transaction() -> int:
    """How many other sessions of this database have a transaction open and do nothing in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state LIKE 'idle in transaction%'"
        )
        return int(cursor.fetchone()[0])
