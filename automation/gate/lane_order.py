"""Who is before a run in its lane: one predicate for ``explain``, for lists and for those who give places.

A lane has ``width`` places. A run holds one from its start until it is final; in a lane that skips parked runs, until
it is paused. A run without a place waits while those that hold one, and those that wait before it, are as many as
there are places. A run that waits for a dependency is passed over, and where parked runs are skipped, a
paused one, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from automation.gate import dependencies
from automation.models import AutomationRun
from automation.models.runs import RunQuerySet
from automation.models.tables import LANE, RUN
from pause_manager.reasons import ReasonCode

CODE = ReasonCode.LANE
MOST_NAMED = 3


def order(run: str) -> str:
    """SQL: what runs of a lane are ordered by."""
    return f"({run}.priority, {run}.lane_order, {run}.created_at, {run}.id)"


def waits(run: str) -> str:
    """SQL: it is to be started, or was resumed, and has no place."""
    return (
        f"({run}.finished_at IS NULL AND {run}.lane_seat_at IS NULL AND {run}.start_requested_at IS NOT NULL "
        f"AND {run}.cancel_requested_at IS NULL)"
    )


def passed_over(run: str, lane: str) -> str:
    """SQL: those behind it do not wait for it."""
    return (
        f"({dependencies.unmet(run)} OR ({run}.paused_at IS NOT NULL "
        f"AND EXISTS (SELECT FROM {LANE} WHERE name = {lane} AND policy = 'skip_parked')))"
    )


def width(lane: str) -> str:
    """SQL: the places of ``lane``."""
    return f"coalesce((SELECT width FROM {LANE} WHERE name = {lane}), 1)"


def _seated(run: str) -> str:
    return f"""
        SELECT seated.id, seated.lane_seat_at FROM {RUN} AS seated
         WHERE seated.lane = {run}.lane AND seated.lane_seat_at IS NOT NULL
         ORDER BY seated.lane_seat_at LIMIT {width(f"{run}.lane")}
    """


def _before(run: str) -> str:
    return f"""
        SELECT other.id, NULL::timestamptz FROM {RUN} AS other
         WHERE other.lane = {run}.lane AND other.id <> {run}.id AND {waits("other")} AND {order("other")} < {order(run)}
           AND NOT {passed_over("other", f"{run}.lane")}
         ORDER BY other.priority, other.lane_order, other.created_at, other.id LIMIT {width(f"{run}.lane")}
    """


def must_wait(run: str) -> str:
    """SQL: no place in its lane is free for it."""
    return f"""
        ({run}.lane_seat_at IS NULL AND {width(f"{run}.lane")} <= (
            SELECT count(*) FROM (({_seated(run)}) UNION ALL ({_before(run)})) AS ahead))
    """


MUST_WAIT = must_wait("run")
"""SQL over ``run``: no place in its lane is free for it."""


def _first_of(lane: str) -> str:
    return f"""
        SELECT run.id, run.lifecycle FROM {RUN} AS run
         WHERE run.lane = {lane} AND {waits("run")} AND NOT {passed_over("run", lane)}
         ORDER BY run.priority, run.lane_order, run.created_at, run.id
         LIMIT greatest(0, {width(lane)} - (
               SELECT count(*) FROM {RUN} AS seated WHERE seated.lane = {lane} AND seated.lane_seat_at IS NOT NULL))
    """


FIRST = _first_of("%(lane)s")
"""The first who wait, as many as places are free. One that something else keeps takes up a place all the same."""

WITH_FREE_PLACES = f"""
    WITH RECURSIVE waiting(lane) AS (
        (SELECT run.lane FROM {RUN} AS run WHERE {waits("run")} ORDER BY run.lane LIMIT 1)
         UNION ALL
        SELECT (SELECT run.lane FROM {RUN} AS run WHERE {waits("run")} AND run.lane > waiting.lane
                 ORDER BY run.lane LIMIT 1)
          FROM waiting WHERE waiting.lane IS NOT NULL)
    SELECT lane FROM waiting
     WHERE lane IS NOT NULL
       AND {width("lane")} > (SELECT count(*) FROM {RUN} AS run WHERE run.lane = waiting.lane
                                 AND run.lane_seat_at IS NOT NULL)
"""
"""The lanes in which somebody waits and a place is free."""

NEXT = f"""
    SELECT first.id FROM ({WITH_FREE_PLACES}) AS free(lane) CROSS JOIN LATERAL ({_first_of("free.lane")}) AS first
"""
"""The first who wait in every lane: all others that wait must wait on. One look, however many wait."""


@dataclass(frozen=True)
class Ahead:
    """A run that holds a place of a lane, or waits before another."""

    id: UUID
    pipeline: str
    lifecycle: str
    is_paused: bool
    has_place: bool

    @property
    def named(self) -> str:
        """Its short name, pipeline and state, for a sentence."""
        state = "paused" if self.is_paused else self.lifecycle
        return f"{str(self.id)[:8]} ({self.pipeline}, {state})"


def ahead_of(run_ids: Iterable[UUID]) -> dict[UUID, list[Ahead]]:
    """The runs that each waits for in its lane: as many as it has places. Left out are those for which one is free.

    One statement.
    """
    rows: dict[UUID, list[tuple[Any, ...]]] = {}
    if not (ids := list(run_ids)):
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_AHEAD, {"runs": ids})
        for run_id, *row in cursor.fetchall():
            rows.setdefault(run_id, []).append(tuple(row))
    return {pk: [Ahead(*row[1:]) for row in of[: of[0][0]]] for pk, of in rows.items() if len(of) >= of[0][0]}


def ahead_of_new(lane: str) -> list[Ahead]:
    """The runs that one which is created now, with the usual priority, would wait for; none if a place is free."""
    with connection.cursor() as cursor:
        cursor.execute(_AHEAD_OF_NEW, {"lane": lane})
        rows = cursor.fetchall()
    places = rows[0][0] if rows else 0
    return [Ahead(*row[1:]) for row in rows[:places]] if rows and len(rows) >= places else []


def waiting_among(run_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the runs for which no place is free. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT run.id FROM {RUN} AS run WHERE run.id = ANY(%s::uuid[]) AND {MUST_WAIT}", [list(run_ids)]
        )
        return {row[0] for row in cursor.fetchall()}


def waiting_in(lane: str, direction: str = "") -> RunQuerySet:
    """The runs that wait for a place in ``lane``, in its order; with the direction ``-`` the last comes first."""
    waiting: RunQuerySet = AutomationRun.objects.unfinished().filter(
        lane=lane, lane_seat_at__isnull=True, start_requested_at__isnull=False, cancel_requested_at__isnull=True
    )
    return waiting.order_by(*(f"{direction}{name}" for name in ("priority", "lane_order", "created_at", "id")))


def sentence(lane: str, ahead: list[Ahead]) -> str:
    """Why a run waits for its lane."""
    named = [one.named for one in ahead[:MOST_NAMED]]
    if len(ahead) > MOST_NAMED:
        named.append(f"{len(ahead) - MOST_NAMED} more")
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    if len(ahead) == 1:
        return f"It waits for run {listed} of lane {lane}."
    return f"It waits for a place in lane {lane}, which has {len(ahead)}: before it are runs {listed}."


def since(run: AutomationRun) -> datetime | None:
    """Since when it has waited for its lane, at most."""
    return run.resumed_at if run.started_at is not None else run.start_requested_at or run.created_at


def lane_has_active_run(run_id: Any) -> bool:
    """Whether other runs of its lane keep ``run_id`` from a place; False for what is not a run.

    The same predicate as that of ``explain`` and of those who give places.
    """
    try:
        pk = run_id if isinstance(run_id, UUID) else UUID(str(run_id))
    except ValueError:
        return False
    return bool(waiting_among([pk]))


# With OFFSET each is looked up: the planner takes a lane to have many places, and would read all runs.
_AHEAD = f"""
    SELECT run.id, {width("run.lane")}, other.id, other.pipeline, other.lifecycle, other.paused_at IS NOT NULL,
           other.lane_seat_at IS NOT NULL
      FROM {RUN} AS run
     CROSS JOIN LATERAL (({_seated("run")}) UNION ALL ({_before("run")})) AS ahead(id, since)
     CROSS JOIN LATERAL (SELECT * FROM {RUN} WHERE id = ahead.id OFFSET 0) AS other
     WHERE run.id = ANY(%(runs)s::uuid[]) AND run.lane_seat_at IS NULL
     ORDER BY ahead.since NULLS LAST, other.priority, other.lane_order, other.created_at, other.id
"""

_AHEAD_OF_NEW = f"""
    SELECT {width("%(lane)s")}, other.id, other.pipeline, other.lifecycle, other.paused_at IS NOT NULL,
           other.lane_seat_at IS NOT NULL
      FROM {RUN} AS other
     WHERE other.lane = %(lane)s AND (other.lane_seat_at IS NOT NULL OR (
           {waits("other")} AND other.priority <= {AutomationRun._meta.get_field("priority").default}
           AND NOT {passed_over("other", "%(lane)s")}))
     ORDER BY other.lane_seat_at NULLS LAST, other.priority, other.lane_order, other.created_at, other.id
     LIMIT {width("%(lane)s")}
"""
