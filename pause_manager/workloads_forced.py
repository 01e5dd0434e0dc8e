"""Work that operators have forced on: it waits for no room, and a node that takes no new work serves its queues still.

What else comes from these queues finds no room when it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pause_manager.models import PauseQueueEntry

Provider = Callable[[], Iterable[str]]

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked for the queues of its forced work; usable as a decorator."""
    _providers.append(provider)
    return provider


def queues() -> frozenset[str]:
    """The queues on which forced work waits or may come. One statement each provider."""
    return frozenset(queue for provider in _providers for queue in provider())


@register
def _of_messages() -> Iterable[str]:
    return PauseQueueEntry.objects.unanswered().filter(is_forced=True).values_list("queue", flat=True)
