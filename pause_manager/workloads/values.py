"""What workloads return, and what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pause_manager import conf
from pause_manager.actor import Actor
from pause_manager.capacity.needs import Needs
from pause_manager.scopes import RUNS

MOST_BLOCKERS = 50
SILENT_BEATS = 2

WORKER, AGENT = MEMBER_KINDS = ("worker", "agent")

Counts = dict[str, int]
"""How much of what is in progress, such as ``{"leases": 12, "runs": 3}``."""


@dataclass(frozen=True)
class WorkKind:
    """Work of one stage of a pipeline: what new work of this kind needs."""

    pipeline: str
    stage: str
    needs: Needs
    queue: str = ""
    """The queue whose workers do it; empty: work that no queue brings."""


@dataclass(frozen=True)
class Waiter:
    """One piece of work that waits for a resource."""

    kind: str
    """Who stands in one line: ``run``, ``agent`` (a run whose work agents do) or ``task``."""
    position: int
    """In the line of its kind; 1 is next."""
    priority: int
    ref: str = ""
    """Such as ``run:x``; empty, as ``title``, if it is another tenant's."""
    title: str = ""


@dataclass(frozen=True)
class Blocker:
    """One piece of work that keeps the fleet from being drained. ``ref`` names what it is part of, such as ``run:x``.

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
            "run": self.ref.removeprefix(RUNS),
            "stage": self.stage,
            "item": self.item,
            "worker": self.worker,
            "node": self.node,
            "since": self.since.isoformat(),
            "estimatedEnd": self.ends_at.isoformat() if self.ends_at else None,
            "isStale": self.is_stale,
        }


@dataclass(frozen=True)
class Remaining:
    """The work of one workload: pieces that are due, that run, and whose worker is lost; and the oldest that run."""

    queued: int = 0
    running: int = 0
    stale: int = 0
    blockers: tuple[Blocker, ...] = ()
    unreported: int = 0
    """Live workers that have not confirmed that they obey the pause: what they have in hand is unknown."""
    warnings: tuple[str, ...] = ()
    """What would not resume after a release, one sentence each."""


@dataclass(frozen=True)
class Member:
    """A worker or agent that lives (or has work in hand), and the version of the fleet switch that it acknowledged."""

    kind: str
    name: str
    node: str
    version: int
    seen_at: datetime
    silent_seconds: float
    owner: str = ""
    """Its main process."""
    since: datetime | None = None
    """When it first reported ``version``."""

    def lags(self, version: int) -> bool:
        """Whether it reports and has not acknowledged ``version``."""
        return self.version < version and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether it has been silent for two beats, so that what it obeys and has in hand is unknown.

        An agent is silent between two calls and takes nothing unasked: its last call counts.
        """
        return self.kind == WORKER and self.silent_seconds > SILENT_BEATS * conf.settings().worker_beat_seconds

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in the style of the endpoint."""
        return {
            "kind": self.kind,
            "name": self.name,
            "node": self.node,
            "acknowledgedVersion": self.version,
            "lastSeenAt": self.seen_at.isoformat(),
            "silentSeconds": round(self.silent_seconds, 1),
        }


@dataclass(frozen=True)
class Finding:
    """One fact that answers a question of the health verdict.

    ``level``: ``problem`` if somebody must act, ``held`` if work is stopped on purpose or waits for room, ``note`` if
    it is worth a look, ``good`` if it is evidence that all is well.
    """

    question: Literal["flowing", "succeeding", "fresh"]
    level: Literal["problem", "held", "note", "good"]
    code: str
    sentence: str
    """For everybody who may see the fleet: counts, queues and nodes, no names of runs and no errors of stages."""
    cause: str = ""
    """The likely cause."""
    next_step: str = ""
    """What to do or to look at next."""
    since: datetime | None = None
    detail: str = ""
    """Names and errors, for operators."""


@dataclass(frozen=True)
class HoldChange:
    """A change of the holds of one kind on ``scopes``, as its transaction makes it."""

    what: Literal["placed", "altered", "released"]
    scopes: Sequence[str]
    kind: str
    actor: Actor
    reason: str
    details: dict[str, dict[str, Any]]
    """By scope, stored with the event; those who are told of the change may add to them."""
