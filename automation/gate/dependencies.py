"""The runs that a run waits for by declaration: it starts once each of them has completed, or somebody releases it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from automation.models.tables import DEPENDENCY, RUN
from pause_manager.models import Hold
from pause_manager.reasons import ReasonCode

CODE = ReasonCode.DEPENDENCY


def unmet(run: str) -> str:
    """SQL over ``run``: it waits for a dependency."""
    return (
        f"EXISTS (SELECT FROM {DEPENDENCY} AS needed WHERE needed.run_id = {run}.id "
        f"AND needed.satisfied_at IS NULL AND needed.released_at IS NULL)"
    )


@dataclass(frozen=True)
class Awaited:
    """A run that another waits for."""

    after: UUID
    created_at: datetime
    pipeline: str | None
    """``None`` if its row is gone."""
    lifecycle: str | None
    finished_at: datetime | None
    is_deleted: bool
    is_cancelled: bool
    """Whether its cancel was requested."""
    hold_kind: str | None
    hold_actor: str | None
    hold_reason: str | None

    @property
    def is_lost(self) -> bool:
        """Whether it will never complete."""
        return self.is_deleted or self.pipeline is None or self.lifecycle in ("failed", "cancelled")

    @property
    def sentence(self) -> str:
        """Why its dependent waits."""
        name = str(self.after)[:8]
        if self.pipeline is None or self.is_deleted:
            return f"It waits for run {name}, which was deleted before it had completed; somebody must decide."
        name = f"{name} ({self.pipeline})"
        if self.lifecycle in ("failed", "cancelled"):
            state = "has failed" if self.lifecycle == "failed" else "was cancelled"
            return f"It waits for run {name}, which {state}; somebody must decide."
        if self.is_cancelled:
            return f"It waits for run {name}, which is being cancelled."
        if self.hold_kind is not None:
            if self.hold_kind == Hold.Kind.CAPACITY:
                return f"It waits for run {name}, which waits for room."
            who = (self.hold_actor or "").removeprefix("user:")
            why = f": {self.hold_reason.removesuffix('.')}" if self.hold_reason else ", no reason given"
            return f"It waits for run {name}, which was paused by {who}{why}."
        return f"It waits for run {name}, which is {self.lifecycle}, to complete."

    @property
    def lifted_by(self) -> str:
        """What ends the wait."""
        name = str(self.after)[:8]
        if self.is_lost:
            retry = f"run {name} is retried and that completes, " if self.lifecycle == "failed" else ""
            return f"{retry}an operator releases the dependency, or this run is cancelled"
        return f"run {name} completes"


def awaited_by(run_ids: Iterable[UUID]) -> dict[UUID, list[Awaited]]:
    """What the runs wait for, each in the order in which it was declared; those that wait for nothing left out.

    One statement.
    """
    found: dict[UUID, list[Awaited]] = {}
    if not (ids := list(run_ids)):
        return found
    with connection.cursor() as cursor:
        cursor.execute(_AWAITED, {"runs": ids})
        for run_id, *row in cursor.fetchall():
            found.setdefault(run_id, []).append(Awaited(*row))
    return found


def waiting_among(run_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the runs that wait for a dependency. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT run.id FROM {RUN} AS run WHERE run.id = ANY(%s::uuid[]) AND {unmet('run')}", [list(run_ids)]
        )
        return {row[0] for row in cursor.fetchall()}


_AWAITED = f"""
    SELECT needed.run_id, needed.after_id, needed.created_at, other.pipeline, other.lifecycle, other.finished_at,
           other.deleted_at IS NOT NULL, other.cancel_requested_at IS NOT NULL, hold.kind, hold.actor, hold.reason
      FROM {DEPENDENCY} AS needed
      LEFT JOIN {RUN} AS other ON other.id = needed.after_id
      LEFT JOIN LATERAL (
            SELECT kind, actor, reason FROM {Hold._meta.db_table}
             WHERE scope = 'run:' || needed.after_id AND released_at IS NULL
             ORDER BY (kind = 'capacity'), created_at LIMIT 1) AS hold ON true
     WHERE needed.run_id = ANY(%(runs)s::uuid[]) AND needed.satisfied_at IS NULL AND needed.released_at IS NULL
     ORDER BY needed.created_at, needed.id
"""
