"""How many items of a slice its holder may begin, where an app limits that: register a :data:`Provider` in
``AppConfig.ready``.

A stage that no provider limits costs one question per loop and nothing per item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from automation.items.leased_slice import LeasedSlice
from automation.models import StageRun
from pause_manager.holds.stops import Stop


@dataclass(frozen=True)
class Permit:
    """``passes`` more calls of the stage's ``process`` may begin.

    With none: the loop leaves because of ``stop``, or asks again in a moment if there is no ``stop``.
    """

    passes: int
    stop: Stop | None = None


class Draw(Protocol):
    """What limits a stage. What a holder does not use of what was drawn for it ends with its lease."""

    def __call__(self, work: LeasedSlice, wanted: int, /) -> Permit:
        """Draw up to ``wanted`` passes for the holder of ``work``."""

    def drawn(self, work: LeasedSlice, /) -> int:
        """The passes that were drawn for the holder of ``work`` and are not committed."""


Provider = Callable[[StageRun], Draw | None]
"""Asked once per loop; ``None``: it does not limit this stage."""

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Add ``provider``; of several that limit a stage, the first decides."""
    _providers.append(provider)
    return provider


def of(stage_run: StageRun) -> Draw | None:
    """What limits the stage, if anything does."""
    return next((draw for provider in _providers if (draw := provider(stage_run)) is not None), None)
