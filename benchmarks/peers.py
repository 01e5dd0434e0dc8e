"""The peer: plain Celery, one task an item, nothing durable."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("peer", broker=os.environ.get("PEER_BROKER_URL"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue="warm",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="peer.noop")
def noop(n: int) -> int:
    """Do nothing with ``n``."""
    return n
