"""The line before a resource: the stages that have work for it and no loop, in the order in which they get its places.

It is the order of ``dispatch`` and ``turns``, and for stages of agents that of their claims. A run that anything else
keeps is not in it. Tasks have a line of their own, see ``pause_manager.resources.line``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from automation.gate import delays, installed_code
from automation.models.tables import RUN, SLICE, STAGE
from automation.pipeline import AGENT
from automation.pipeline.definition import INTERFACE, QUEUE
from pause_manager.models import Hold
from pause_manager.resources.limits import RESOURCE

MEASURED_SECONDS = 600
"""How far back the turns are counted that a rate is measured from."""
FEWEST_TURNS = 5
"""A rate is not known from fewer."""
MOST_TURNS = 200
"""Nor is it measured from more."""
MOST_HEADS = 100

_HOLD = Hold._meta.db_table
IS_FOR_AGENTS = f"({INTERFACE} = '{AGENT}')"


def _since(is_for_agents: str) -> str:
    return f"coalesce(CASE WHEN {is_for_agents} THEN run.started_at ELSE stage.turn_at END, '-infinity')"


_SINCE = _since(IS_FOR_AGENTS)
ORDER = f"run.priority, {_SINCE}, stage.id"
"""SQL over ``run`` and ``stage``: by what those that wait are ordered, all for agents or none."""

HELD = f"SELECT scope::text FROM {_HOLD} WHERE released_at IS NULL"
"""SQL: the scopes that are held. A statement with :func:`in_line` has it as ``held``."""

_OTHER_IS_HELD = """
    EXISTS (SELECT FROM jsonb_array_elements_text(stage.definition->'uses') AS used(name)
             WHERE used.name <> {name} AND 'resource:' || used.name IN (SELECT scope FROM held))
"""


def in_line(name: str) -> str:
    """SQL over ``run`` and ``stage``: the stage waits for the resource ``name``, and nothing else keeps it.

    Written so that the planner expects many: a run with a place in its lane is running, by a constraint, so that is not
    asked; and it takes the operator ``?`` for rare, but not its function. Otherwise each run is looked up by itself,
    which takes twice as long.
    """
    return f"""
        stage.lifecycle = 'running' AND jsonb_exists(stage.definition->'uses', {name})
        AND run.lane_seat_at IS NOT NULL AND run.cancel_requested_at IS NULL AND run.paused_at IS NULL
        AND {installed_code.IS_HERE}
        AND (stage.loop_retry_at IS NULL OR stage.loop_retry_at <= statement_timestamp())
        AND (NOT EXISTS (SELECT FROM held)
             OR ('pipeline:' || run.pipeline NOT IN (SELECT scope FROM held)
                 AND 'lane:' || run.lane NOT IN (SELECT scope FROM held)
                 AND 'queue:' || {QUEUE} NOT IN (SELECT scope FROM held)
                 AND NOT (jsonb_array_length(stage.definition->'uses') > 1 AND {_OTHER_IS_HELD.format(name=name)})))
        AND stage.id NOT IN (SELECT stage_run_id FROM {SLICE}
                              WHERE lease_token IS NOT NULL AND finished_at IS NULL)
        AND (stage.id NOT IN (SELECT stage_run_id FROM {SLICE}
                               WHERE available_at IS NOT NULL AND finished_at IS NULL)
             OR EXISTS (SELECT FROM {SLICE} AS slice
                         WHERE slice.stage_run_id = stage.id AND slice.finished_at IS NULL
                           AND (slice.available_at IS NULL OR slice.available_at <= statement_timestamp())
                           AND (slice.is_begun OR {delays.HANDS_OUT})))
        AND (stage.begins_at IS NULL OR stage.begins_at <= statement_timestamp()) AND NOT {delays.BETWEEN_BATCHES}
    """


@dataclass(frozen=True)
class Place:
    """Where a run is in the line of the resource that it waits for longest."""

    position: int
    resource: str
    expected_start: datetime | None


@dataclass(frozen=True)
class Waiter:
    """A stage in line."""

    stage_run_id: int
    run_id: UUID
    pipeline: str
    slug: str
    priority: int
    is_for_agents: bool
    position: int
    """Among those for agents, or among the others."""


def place_of(run_id: UUID, names: Collection[str]) -> Place | None:
    """The place of the run before the resources ``names``, which keep it; ``None`` if it is in no line of theirs.

    Of a stage that waits for several the last place counts, of several stages the first.
    """
    if not names:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_PLACES, {"run": run_id, "names": sorted(names), **_values()})
        rows = cursor.fetchall()
    by_stage: dict[int, list[tuple[int, str, datetime | None]]] = {}
    for stage_run_id, name, position, expected in rows:
        by_stage.setdefault(stage_run_id, []).append((position, name, expected))
    if not by_stage:
        return None
    waits = min((max(some, key=lambda one: one[0]), some) for some in by_stage.values())
    (position, name, _), some = waits
    times = [at for _, _, at in some]
    return Place(position, name, None if None in times else max(at for at in times if at is not None))


def first(name: str, at_most: int) -> list[Waiter]:
    """The first in the line of the resource, workers' and agents' by turns of the same order. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, {"name": name, "at_most": at_most, **_values()})
        return [Waiter(*row) for row in cursor.fetchall()]


def heads(places: Mapping[str, int]) -> list[int]:
    """The stages for workers that are first in line: of each resource as many as it has ``places``."""
    found: list[int] = []
    with connection.cursor() as cursor:
        for name, count in places.items():
            if count > 0:
                cursor.execute(_HEADS, {"name": name, "at_most": min(count, MOST_HEADS), **_values()})
                found += [row[0] for row in cursor.fetchall()]
    return found


def _values() -> dict[str, Any]:
    return {"installed": installed_code.keys(), "measured": MEASURED_SECONDS, "fewest": FEWEST_TURNS}


_LINE = f"{STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id"

# As a subquery the time is computed once, and compared before any definition is read.
_IS_MEASURED = "{at} > (SELECT statement_timestamp() - make_interval(secs => %(measured)s))"
# Of workers' stages it is known when they had their last turn; what has ended lately had one. The newest count.
_TURNS = f"""
    SELECT count(*) AS turns, extract(epoch FROM statement_timestamp() - min(at))::float8 AS seconds
      FROM (SELECT turned.at
              FROM (SELECT stage.turn_at FROM {STAGE} AS stage
                     WHERE stage.lifecycle = 'running' AND {_IS_MEASURED.format(at="stage.turn_at")}
                       AND stage.definition->'uses' ? own.name AND NOT {IS_FOR_AGENTS}
                     UNION ALL
                   (SELECT CASE WHEN stage.definition->'uses' ? own.name THEN stage.turn_at END
                      FROM {STAGE} AS stage
                     WHERE stage.slug = own.slug AND stage.finished_at IS NOT NULL
                     ORDER BY stage.finished_at DESC LIMIT {MOST_TURNS})) AS turned(at)
             WHERE {_IS_MEASURED.format(at="turned.at")}
             ORDER BY turned.at DESC LIMIT {MOST_TURNS}) AS newest
"""

_PLACES = f"""
    WITH held AS MATERIALIZED ({HELD}),
         own AS MATERIALIZED (
             SELECT stage.id, stage.slug, asked.name, {IS_FOR_AGENTS} AS is_for_agents,
                    run.priority, {_SINCE} AS since
               FROM {_LINE} CROSS JOIN unnest(%(names)s::text[]) AS asked(name)
              WHERE run.id = %(run)s AND {in_line("asked.name")}),
         placed AS MATERIALIZED (
             SELECT own.id, own.slug, own.name, own.is_for_agents, 1 + (
                    SELECT count(*) FILTER (WHERE {IS_FOR_AGENTS} = own.is_for_agents
                                              AND (run.priority, {_since("own.is_for_agents")}, stage.id)
                                                  < (own.priority, own.since, own.id))
                      FROM {_LINE} WHERE {in_line("own.name")}) AS position
               FROM own)
    SELECT own.id, own.name, own.position,
           CASE WHEN EXISTS (SELECT FROM held WHERE scope = 'resource:' || own.name) THEN (
                     SELECT resource.next_probe_at FROM {RESOURCE} AS resource
                      WHERE resource.name = own.name AND resource.state = 'held' AND own.position = 1
                        AND NOT EXISTS (SELECT FROM {_HOLD} AS hold WHERE hold.released_at IS NULL
                                           AND hold.scope = 'resource:' || own.name AND hold.kind <> 'throttled'))
                WHEN own.is_for_agents OR measured.turns < %(fewest)s THEN NULL
                ELSE statement_timestamp() + make_interval(secs => own.position * measured.seconds / measured.turns)
           END
      FROM placed AS own CROSS JOIN LATERAL ({_TURNS}) AS measured
"""

_FIRST = f"""
    WITH held AS MATERIALIZED ({HELD})
    SELECT * FROM (
           SELECT stage.id, run.id AS run_id, run.pipeline, stage.slug, run.priority, {IS_FOR_AGENTS} AS is_for_agents,
                  row_number() OVER (PARTITION BY {IS_FOR_AGENTS} ORDER BY {ORDER}) AS position
             FROM {_LINE} WHERE {in_line("%(name)s")}) AS line
     WHERE position <= %(at_most)s ORDER BY is_for_agents, position
"""

_HEADS = f"""
    WITH held AS MATERIALIZED ({HELD})
    SELECT stage.id FROM {_LINE} WHERE NOT {IS_FOR_AGENTS} AND {in_line("%(name)s")}
     ORDER BY {ORDER} LIMIT %(at_most)s
"""
