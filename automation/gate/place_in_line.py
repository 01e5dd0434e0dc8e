"""How many are before a run in its lane, and when it may be expected to start."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from automation.gate import dependencies
from automation.gate.lane_order import order, passed_over, waits, width
from automation.models import AutomationRun
from automation.models.tables import DEPENDENCY, LANE, RUN
from pause_manager.models import Hold

MEASURED_RUNS = 5
"""Runs of a pipeline, the newest that completed for the site, from which its rate is measured."""
LOOKED_BACK = 50
"""Ended runs of it that are looked at for these."""
FAR = 1_000
"""A run with more before it has no expected start."""


class Place(NamedTuple):
    """Where a run is among those that wait for its lane."""

    position: int | None
    """1 is next; ``None`` if it does not wait: it has a place, has ended, or nobody asked for its start."""
    expected_start: datetime | None
    """When it starts if runs take as long as the last ones of their pipelines did; ``None`` if that is not known."""


def place_in_line(run: AutomationRun) -> Place:
    """The position of ``run`` among what waits for its lane, and its expected start.

    Not counted is what the lane passes over: a run that waits for a dependency, and a paused one where those are
    skipped. What a hold on a lane, a pipeline or a queue keeps does not lose its turn, and counts.

    The start is not known while the lane, the fleet or the run is held, while a run before it is paused, or while the
    rate of a pipeline is not measured: no run of it has completed for the site.
    """
    return places_in_line([run.pk]).get(run.pk, Place(None, None))


def places_in_line(run_ids: Iterable[UUID]) -> dict[UUID, Place]:
    """The same for each of the runs that waits for its lane. One statement."""
    values: dict[str, Any] = {"ids": list(run_ids), "measured": MEASURED_RUNS, "looked_back": LOOKED_BACK, "far": FAR}
    with connection.cursor() as cursor:
        cursor.execute(_PLACES, values)
        rows = cursor.fetchall()
    return {pk: Place(before + 1, expected if is_known else None) for pk, before, is_known, expected in rows}


def position_of_new(lane: str) -> int:
    """The position of a run that is created now, with the usual priority, and waits for ``lane``."""
    with connection.cursor() as cursor:
        cursor.execute(_POSITION_OF_NEW, {"lane": lane})
        (before,) = cursor.fetchone()
    return int(before) + 1


def first_unpaused(lane: str, at_most: int) -> dict[UUID, int]:
    """The first runs that wait for ``lane`` and are not paused, in order, with their positions. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_UNPAUSED, {"lane": lane, "at_most": at_most})
        return dict(cursor.fetchall())


def unpaused_count(lane: str) -> int:
    """How many wait for ``lane`` and are not paused."""
    with connection.cursor() as cursor:
        cursor.execute(_UNPAUSED_COUNT, {"lane": lane})
        (count,) = cursor.fetchone()
    return int(count)


_ITS_ORDER = "(own.priority, own.lane_order, own.created_at, own.id)"

# All by the index alone, less the few that the lane passes over.
_COUNT = f"""
    SELECT (SELECT count(*) FROM {RUN} AS other WHERE {{before}}) - (
            SELECT count(*) FROM (
                   SELECT other.id FROM {DEPENDENCY} AS needed JOIN {RUN} AS other ON other.id = needed.run_id
                    WHERE needed.satisfied_at IS NULL AND needed.released_at IS NULL AND {{before}}
                    UNION
                   SELECT other.id FROM {RUN} AS other
                    WHERE other.paused_at IS NOT NULL AND {{before}}
                      AND EXISTS (SELECT FROM {LANE} WHERE name = {{lane}} AND policy = 'skip_parked')) AS passed)
           AS before
"""
_POSITION = _COUNT.format(
    before=f"other.lane = own.lane AND {waits('other')} AND {order('other')} < {_ITS_ORDER}", lane="own.lane"
)
_POSITION_OF_NEW = _COUNT.format(
    before=f"other.lane = %(lane)s AND {waits('other')} "
    f"AND other.priority <= {AutomationRun._meta.get_field('priority').default}",
    lane="%(lane)s",
)

# All by the index of the line, less those that the index of paused ones has.
_WAITING = f"SELECT count(*) FROM {RUN} AS other WHERE other.lane = %(lane)s AND {waits('other')}"
_UNPAUSED_COUNT = f"SELECT ({_WAITING}) - ({_WAITING} AND other.paused_at IS NOT NULL)"

# Told from the front as far as it is asked for, however many wait.
_FIRST_UNPAUSED = f"""
    SELECT id, position FROM (
           SELECT other.id, other.paused_at,
                  1 + count(*) FILTER (WHERE NOT {passed_over("other", "%(lane)s")}) OVER (
                      ORDER BY other.priority, other.lane_order, other.created_at, other.id
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS position
             FROM {RUN} AS other WHERE other.lane = %(lane)s AND {waits("other")}
            ORDER BY other.priority, other.lane_order, other.created_at, other.id) AS line
     WHERE paused_at IS NULL LIMIT %(at_most)s
"""

_EXPECTED = f"""
    WITH ahead AS MATERIALIZED (
        SELECT other.pipeline, other.total_items,
               other.paused_at IS NOT NULL AS is_kept, 0.0 AS worked
          FROM {RUN} AS other
         WHERE own.before < %(far)s AND other.lane = own.lane AND {waits("other")}
           AND {order("other")} < {_ITS_ORDER} AND NOT {passed_over("other", "own.lane")}
         UNION ALL
        SELECT other.pipeline, other.total_items, other.paused_at IS NOT NULL,
               greatest(0, extract(epoch FROM statement_timestamp() - other.started_at) - other.paused_seconds)
          FROM {RUN} AS other WHERE other.lane = own.lane AND other.lane_seat_at IS NOT NULL
    ), rates AS MATERIALIZED (
        SELECT pipeline, (
               SELECT sum(seconds) / nullif(sum(total_items), 0) FROM (
                      SELECT extract(epoch FROM ended.finished_at - ended.started_at) - ended.paused_seconds AS seconds,
                             ended.total_items
                        FROM (SELECT * FROM {RUN} AS ended
                               WHERE ended.site_id = own.site_id AND ended.pipeline = ahead.pipeline
                                 AND ended.finished_at IS NOT NULL AND ended.deleted_at IS NULL
                               ORDER BY ended.finished_at DESC LIMIT %(looked_back)s) AS ended
                       WHERE ended.lifecycle = 'completed' ORDER BY ended.finished_at DESC LIMIT %(measured)s
                      ) AS measured) AS rate
          FROM (SELECT DISTINCT pipeline FROM ahead) AS ahead
    )
    SELECT own.before < %(far)s AND NOT EXISTS (
               SELECT FROM {Hold._meta.db_table} AS hold WHERE hold.released_at IS NULL
                  AND hold.scope IN ('fleet', 'lane:' || own.lane, 'run:' || own.id))
           AND NOT EXISTS (SELECT FROM {RUN} AS run WHERE run.id = own.id AND {dependencies.unmet("run")})
           AND NOT coalesce(bool_or(ahead.is_kept OR rates.rate IS NULL), false) AS is_known,
           statement_timestamp() + make_interval(secs =>
               (coalesce(sum(greatest(0, ahead.total_items * rates.rate - ahead.worked)), 0)
                / {width("own.lane")})::float8) AS start
      FROM ahead JOIN rates USING (pipeline)
"""

# The position first: of who is far back, nothing else of those before it is read.
_PLACES = f"""
    WITH placed AS MATERIALIZED (
        SELECT own.id, own.lane, own.site_id, own.priority, own.lane_order, own.created_at, line.before
          FROM {RUN} AS own CROSS JOIN LATERAL ({_POSITION}) AS line
         WHERE own.id = ANY(%(ids)s::uuid[]) AND {waits("own")})
    SELECT own.id, own.before, coalesce(expected.is_known, false), expected.start
      FROM placed AS own LEFT JOIN LATERAL ({_EXPECTED}) AS expected ON true
"""
