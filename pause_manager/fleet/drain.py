"""What the fleet still works on, and what waits: read from the workloads, never counted."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from pause_manager import database, workloads
from pause_manager.workloads import MOST_BLOCKERS, Blocker

logger = logging.getLogger("pause_manager.fleet.drain")


@dataclass(frozen=True)
class Metrics:
    """The sums over all workloads. If one of them cannot be read, nothing is claimed to be known."""

    queued: int = 0
    running: int = 0
    stale_running: int = 0
    blockers: list[Blocker] = field(default_factory=list)
    is_available: bool = True
    unreported: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def is_drained(self) -> bool:
        """Whether nothing runs any more; what is queued does not count, what is unknown counts as running."""
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
    """Ask every workload. Never raises."""
    try:
        # A failure here must not break the transaction of the caller.
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            found = workloads.remaining(mode)
    except Exception as error:
        if database.is_away(error):
            database.log_outage(error, "what is still running")
        else:
            logger.exception("The remaining work cannot be read.")
        return Metrics(is_available=False)
    return Metrics(
        queued=sum(work.queued for work in found),
        running=sum(work.running for work in found),
        stale_running=sum(work.stale for work in found),
        unreported=sum(work.unreported for work in found),
        warnings=[sentence for work in found for sentence in work.warnings],
        blockers=sorted((one for work in found for one in work.blockers), key=lambda one: one.since)[:MOST_BLOCKERS],
    )
