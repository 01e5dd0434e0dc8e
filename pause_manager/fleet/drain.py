"""What the fleet still works on, and what waits: read, never counted. Whoever has work registers a provider."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from pause_manager import database

logger = logging.getLogger("pause_manager.fleet.drain")

MOST_BLOCKERS = 50


@dataclass(frozen=True)
class Blocker:
    """One piece of work that keeps the fleet from being drained. ``ref`` names what it is of, such as ``run:x``.

    ``ends_at`` is estimated from its own rate; ``None`` if nothing is known yet. ``is_stale``: its worker has been
    silent for longer than its lease lasts.
    """

    ref: str
    stage: str
    item: str
    worker: str
    node: str
    since: datetime
    ends_at: datetime | None = None
    is_stale: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in the style of the endpoint; times in ISO 8601."""
        return {
            "run": self.ref.removeprefix("run:"),
            "stage": self.stage,
            "item": self.item,
            "worker": self.worker,
            "node": self.node,
            "since": self.since.isoformat(),
            "estimatedEnd": self.ends_at.isoformat() if self.ends_at else None,
            "isStale": self.is_stale,
        }


@dataclass(frozen=True)
class Work:
    """What one provider has: pieces that are due, that run, and whose worker is lost; and some of those at work."""

    queued: int = 0
    running: int = 0
    stale: int = 0
    blockers: tuple[Blocker, ...] = ()
    unreported: int = 0
    """Workers that live and have not said that they obey the pause: what they have in hand is not known yet."""
    warnings: tuple[str, ...] = ()
    """What would not go on after a resume, a sentence each."""


Provider = Callable[[str], Work]
"""Called with the mode (``drain``, ``quiesce`` or empty), which decides how long work at hand goes on. Reads only, a
constant number of statements; at most ``MOST_BLOCKERS`` blockers, the oldest first."""

_providers: list[Provider] = []


def register(provider: Provider) -> Provider:
    """Have ``provider`` asked; usable as a decorator."""
    _providers.append(provider)
    return provider


@dataclass(frozen=True)
class Metrics:
    """The sums of all providers. If one of them cannot be read, nothing is claimed to be known."""

    queued: int = 0
    running: int = 0
    stale_running: int = 0
    blockers: list[Blocker] = field(default_factory=list)
    is_available: bool = True
    unreported: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def is_drained(self) -> bool:
        """Whether nothing is at work any more; what is queued does not count, what is unknown counts as at work."""
        return self.is_available and not (self.running or self.stale_running or self.unreported)

    def as_dict(self) -> dict[str, Any]:
        """The counts for JSON: ``null`` where they could not be read."""
        known = self.is_available
        return {
            "status": "available" if known else "unavailable",
            "queued": self.queued if known else None,
            "running": self.running if known else None,
            "staleRunning": self.stale_running if known else None,
            "unreported": self.unreported if known else None,
            "isDrained": self.is_drained,
        }


def measure(mode: str = "") -> Metrics:
    """Ask every provider. Never raises."""
    try:
        # A failure here must not break the transaction of whoever asks.
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            found = [provider(mode) for provider in _providers]
    except Exception as error:
        if database.is_away(error):
            database.note_away(error, "what is still running")
        else:
            logger.exception("The work at hand could not be read.")
        return Metrics(is_available=False)
    return Metrics(
        queued=sum(work.queued for work in found),
        running=sum(work.running for work in found),
        stale_running=sum(work.stale for work in found),
        unreported=sum(work.unreported for work in found),
        warnings=[sentence for work in found for sentence in work.warnings],
        blockers=sorted((one for work in found for one in work.blockers), key=lambda one: one.since)[:MOST_BLOCKERS],
    )
