"""The kinds of work that there are. Whoever has some registers a provider, so that verdicts on it can be told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pause_manager import capacity, manager
from pause_manager.capacity.needs import Needs


@dataclass(frozen=True)
class Kind:
    """Work of one stage of a pipeline."""

    pipeline: str
    stage: str
    needs: Needs
    queue: str = ""
    """Whose workers do it; empty: nobody's."""


Provider = Callable[[], Iterable[Kind]]

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked; usable as a decorator."""
    _providers.append(provider)
    return provider


def every() -> list[Kind]:
    """Every kind of every provider."""
    return [kind for provider in _providers for kind in provider()]


def verdicts(pipeline: str = "") -> list[tuple[Kind, capacity.Verdict]]:
    """The verdict on new work of each kind (of the named pipeline), from one look at the fleet."""
    judge = manager.judge(logging.DEBUG)
    found = [kind for kind in every() if not pipeline or kind.pipeline == pipeline]
    return [(kind, judge(kind.needs, kind.pipeline, kind.queue)) for kind in found]
