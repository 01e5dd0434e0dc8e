"""The work of ours that nodes carry. Whoever has some registers a provider; nothing is counted, all is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pause_manager.capacity.snapshot import Load

Provider = Callable[[str | None], Iterable[tuple[str | None, Load]]]
"""Called with a node's name, gives (node, load) of that one; with ``None``, of all, and (``None``, load) for what is
sent but not placed."""

KEEPS_SECONDS = 30
"""Work whose worker was lost keeps its admission on its node for so long: what it needs stays free for it there."""

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked; usable as a decorator."""
    _providers.append(provider)
    return provider


def providers() -> tuple[Provider, ...]:
    """Everybody who has registered."""
    return tuple(_providers)


def by_node(node: str | None = None) -> dict[str | None, list[Load]]:
    """Every load of every provider by node, or those of one node if ``node`` is named."""
    found: dict[str | None, list[Load]] = {}
    for provider in _providers:
        for name, load in provider(node):
            found.setdefault(name, []).append(load)
    return found
