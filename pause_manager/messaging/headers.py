"""What the headers and the address of a message say: its entry, its groups, its deaths, its queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ENTRY = "pause-entry"
"""The header by which a message that was kept names its entry and which sending it is: ``17.2``."""

_MOST_SIGNATURES = 1_000


def parse_entry(header: Any) -> tuple[int, int] | None:
    """The entry and the generation of the message that a message names in :data:`ENTRY`; ``None`` if it names none."""
    entry, _, generation = str(header or "").partition(".")
    try:
        return int(entry), int(generation or 0)
    except ValueError:
        return None


def deaths(headers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """How often RabbitMQ has dead-lettered a message with these headers: queue, reason and count, in order."""
    told = [one for one in _several(headers.get("x-death")) if isinstance(one, Mapping)]
    return sorted((str(one.get("queue")), str(one.get("reason")), str(one.get("count"))) for one in told)


def groups_of(headers: Mapping[str, Any], embedded: Any) -> tuple[str, ...]:
    """The groups that cannot be complete before a message is answered: its own, and those of what comes after it.

    ``embedded`` is the third part of its body: the rest of its chain, its chord, its links.
    """
    found = [headers.get("group")]
    after = embedded if isinstance(embedded, Mapping) else {}
    left = [*_several(after.get("chain")), after.get("chord"), *_several(after.get("callbacks"))]
    for _ in range(_MOST_SIGNATURES):
        if not left:
            break
        signature = left.pop()
        if isinstance(signature, Mapping):
            options = signature.get("options")
            if isinstance(options, Mapping):
                found.append(options.get("group_id"))
                left += [options.get("chord"), *_several(options.get("link"))]
    return tuple(dict.fromkeys(str(group) for group in found if group))


def queue_of(app: Any, exchange: str | None, routing_key: str | None) -> str | None:
    """The name of the queue that a message with this address came from, as far as the address tells.

    ``None`` if it has no address or was broadcast.
    """
    if not routing_key and not exchange:
        return None
    if not exchange:
        return routing_key
    bound = [queue for queue in app.amqp.queues.values() if queue.exchange and queue.exchange.name == exchange]
    if any(queue.exchange.type == "fanout" for queue in bound):
        return None
    exact = [queue.name for queue in bound if queue.routing_key == routing_key]
    return str((exact or [queue.name for queue in bound] or [routing_key])[0])


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()
