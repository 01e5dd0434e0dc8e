"""How many loops the places of limited resources let start now, given to those who want some in the order of the line.

A message that is out keeps no place: who has nobody to take it up stands in nobody's way. So there may be more messages
than places, but never one for a later stage before one for an earlier, see ``gate.resource_line``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heapify, heappop, heappush

from django.db import connection

from automation.gate.resource_limits import IN_USE
from automation.models.tables import STAGE
from pause_manager.resources.limits import IS_LIMITED, LIMIT, RESOURCE, STARTS_LATER, values

RECONCILE_SECONDS = 5.0
"""So soon all stages are dispatched again."""


@dataclass(frozen=True)
class Wish:
    """Of one stage: ``messages`` more loops, and what decides whether others come first."""

    messages: int
    uses: Collection[str]
    in_flight: int
    priority: int
    leased: int
    turn_at: datetime | None
    stage_run_id: int

    def turn(self, granted: int) -> tuple[int, int, float, int]:
        """By what it is compared once it has got ``granted`` messages: as ``turns`` compares those who wait."""
        had_at = self.turn_at.timestamp() if self.turn_at else 0.0
        return self.priority, self.leased + granted, had_at, self.stage_run_id


@dataclass
class _Share:
    limit: int | None
    places: int | None
    starts: int | None
    """How many may begin until the next dispatch by ``max_per_minute``; a loop begins with one."""

    @property
    def loops(self) -> int | None:
        """How many loops that are at one item at a time could start; ``None``: as many as there are."""
        found = [count for count in (self.places, self.starts) if count is not None]
        return min(found) if found else None

    def has_place(self, in_flight: int) -> bool:
        """Whether one more loop may start that is at ``in_flight`` items at once."""
        is_full = self.places is not None and self.places < self._weight(in_flight)
        return not is_full and (self.starts is None or self.starts > 0)

    def take(self, in_flight: int) -> None:
        """One loop starts."""
        if self.places is not None:
            self.places -= self._weight(in_flight)
        if self.starts is not None:
            self.starts -= 1

    def _weight(self, in_flight: int) -> int:
        return in_flight if self.limit is None else min(in_flight, self.limit)


class ResourceShares:
    """What is left of the limited resources that stages use; read once, in one statement."""

    def __init__(self, stage_run_ids: Sequence[int]) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_LEFT, {"ids": list(stage_run_ids), "seconds": RECONCILE_SECONDS, **values()})
            self._shares = {name: _Share(*row) for name, *row in cursor.fetchall()}

    def __bool__(self) -> bool:
        return bool(self._shares)

    def loops(self) -> dict[str, int]:
        """By resource, how many loops that are at one item at a time could start."""
        return {name: share.loops for name, share in self._shares.items() if share.loops is not None}

    def grant(self, wishes: Sequence[Wish]) -> list[int]:
        """For each of ``wishes`` how many messages it gets: one by one, by whose turn it is then."""
        granted = [0] * len(wishes)
        line = [(wish.turn(0), number) for number, wish in enumerate(wishes) if wish.messages]
        heapify(line)
        while line:
            _, number = heappop(line)
            wish = wishes[number]
            shares = [self._shares[name] for name in wish.uses if name in self._shares]
            if not shares:
                granted[number] = wish.messages
            elif all(share.has_place(wish.in_flight) for share in shares):
                for share in shares:
                    share.take(wish.in_flight)
                granted[number] += 1
                if granted[number] < wish.messages:
                    heappush(line, (wish.turn(granted[number]), number))
        return granted


_LEFT = f"""
    WITH used AS MATERIALIZED (
        SELECT DISTINCT used.name FROM {STAGE} AS stage
         CROSS JOIN LATERAL jsonb_array_elements_text(stage.definition->'uses') AS used(name)
         WHERE stage.id = ANY(%(ids)s))
    SELECT resource.name, {LIMIT}, CASE WHEN {LIMIT} IS NOT NULL THEN {LIMIT} - {IN_USE} END,
           CASE WHEN resource.max_per_minute IS NULL THEN NULL WHEN {STARTS_LATER} THEN 0
                ELSE greatest(1, resource.max_per_minute * %(seconds)s::float8 / 60)::int END
      FROM {RESOURCE} AS resource
     WHERE {IS_LIMITED} AND resource.name IN (SELECT name FROM used)
"""
