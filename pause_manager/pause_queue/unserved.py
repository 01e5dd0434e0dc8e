"""Queues for which work waits and which no live worker serves. Whoever has work in queues registers a provider."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from django.db import connection

from pause_manager import conf
from pause_manager.models import PauseQueueEntry
from pause_manager.nodes import serving
from pause_manager.pause_queue import heads

Provider = Callable[[], Iterable[str]]

_providers: list[Provider] = []

_ENTRY = PauseQueueEntry._meta.db_table

# One look into the index a queue, however many messages are out.
_OUT = f"""
    WITH RECURSIVE out AS (
        (SELECT queue FROM {_ENTRY} WHERE outcome = 'sent' AND answered_at IS NULL ORDER BY queue LIMIT 1)
         UNION ALL
        SELECT (SELECT entry.queue FROM {_ENTRY} AS entry
                 WHERE entry.outcome = 'sent' AND entry.answered_at IS NULL AND entry.queue > out.queue
                 ORDER BY entry.queue LIMIT 1)
          FROM out WHERE out.queue IS NOT NULL
    )
    SELECT queue FROM out WHERE queue IS NOT NULL
"""


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked for the queues in which it has work; usable as a decorator."""
    _providers.append(provider)
    return provider


def of(queues: Collection[str]) -> list[str]:
    """Those of ``queues`` that no live worker serves; none as long as those that live do not tell what they serve."""
    wanted = {queue for queue in queues if queue and queue != conf.settings().control_queue}
    served = serving.queues() if wanted else []
    return sorted(wanted - set(served)) if served or not serving.is_any() else []


def every() -> list[str]:
    """All queues in which work waits and that no live worker serves."""
    return of({queue for provider in _providers for queue in provider()})


def sentence(queue: str) -> str:
    """For people."""
    return f"No live worker serves the queue {queue}."


@register
def _waiting() -> Iterable[str]:
    return heads.queues()


@register
def _out() -> Iterable[str]:
    with connection.cursor() as cursor:
        cursor.execute(_OUT)
        return [row[0] for row in cursor.fetchall()]
