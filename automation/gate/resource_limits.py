"""Limits of the resources that stages use: whether one more loop may use them, and why a run waits for them.

What is in use is counted from live rows over all runs and tasks. A loop counts for as many items as it works on at once
(``in_flight``), or for the limit if that is lower, and then works on no more. A claim counts while it has the rows of
the resources locked, see ``leases.claims``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from automation.models import AutomationRun
from automation.models.tables import SLICE, STAGE
from automation.pipeline.definition import IN_FLIGHT, USED
from pause_manager import conf, times
from pause_manager.models import Resource, RunningTask
from pause_manager.reasons import ReasonCode
from pause_manager.resources import limits
from pause_manager.resources.limits import IS_LIMITED, LIMIT, RESOURCE, STARTS_LATER

LIMITED = ReasonCode.RESOURCE
"""The code of a wait for a place, or for a start."""

LOOPS = f"""
    SELECT coalesce(sum(least(coalesce((at_work.definition->>'in_flight')::int, 1), {{limit}})), 0)::int
      FROM {SLICE} AS lease JOIN {STAGE} AS at_work ON at_work.id = lease.stage_run_id
     WHERE lease.lease_token IS NOT NULL AND lease.finished_at IS NULL
       AND at_work.definition->'uses' ? {{name}}
"""
"""SQL: how much of a resource loops use."""
_TASKS = f"""
    SELECT count(*)::int FROM {RunningTask._meta.db_table} AS task
     WHERE task.lost_at IS NULL AND resource.name = ANY(task.uses)
"""
IN_USE = f"(({LOOPS.format(limit=LIMIT, name='resource.name')}) + ({_TASKS}))"
"""SQL over ``resource``: how much of it is in use."""
_WEIGHT = f"least({IN_FLIGHT}, {LIMIT})"
_OF_STAGE = f"SELECT {{what}} FROM {RESOURCE} AS resource WHERE resource.name IN {USED}"

HAVE_PLACES = f"""
    NOT EXISTS ({_OF_STAGE.format(what="1")} AND (
        (({LIMIT}) IS NOT NULL AND {IN_USE} + {_WEIGHT} > {LIMIT}) OR {STARTS_LATER}))
"""
"""SQL over ``stage``: its resources have a place for one more loop."""
PLACES = f"({_OF_STAGE.format(what=f'min(({LIMIT} - {IN_USE}) / {_WEIGHT})')} AND ({LIMIT}) IS NOT NULL)"
"""SQL over ``stage``: for how many more loops; null: there is no limit."""
TERMS = f"""
    ({
    _OF_STAGE.format(
        what=f"json_object_agg(resource.name, json_build_array({LIMIT}, resource.state = 'probing', "
        "resource.max_per_minute IS NOT NULL))::text"
    )
} AND {IS_LIMITED})
"""
"""SQL over ``stage``: of each resource that has a limit [how many at once, whether it is asked again, whether its
starts are counted], as JSON."""


def values() -> dict[str, Any]:
    """What a statement with these is given."""
    return limits.values()


@dataclass(frozen=True)
class Wait:
    """A resource without a place for another loop of a run; as ``gate.Reason``."""

    sentence: str
    since: datetime | None
    lifted_by: str
    keeps: bool
    """Whether the run has no loop that uses it."""
    figures: dict[str, Any]


def waits_of(run: AutomationRun) -> list[Wait]:
    """What the running stages of ``run`` wait for. One statement, and none that counts where nothing is limited."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, {"run": run.pk, **values()})
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [wait for row in rows if (wait := _wait(row)) is not None]


def waiting_among(run_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the runs whose running stages a resource keeps: see ``Wait.keeps``. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, {"runs": list(run_ids), **values()})
        return {row[0] for row in cursor.fetchall()}


def _wait(row: dict[str, Any]) -> Wait | None:
    name = row["name"]
    figures = {
        "resource": name,
        "in_use": row["in_use"],
        "max_at_once": row["most"],
        "max_per_minute": row["max_per_minute"],
    }

    def wait(sentence: str, since: datetime | None, lifted_by: str) -> Wait:
        return Wait(sentence, since, lifted_by, keeps=not row["own"], figures=figures)

    if row["is_full"]:
        if row["state"] == Resource.State.PROBING:
            since = times.written(row["probing_since"])
            sentence = (
                f"Resource {name} said “too much”. Since {since} one loop or task asks it again, the others wait."
            )
            return wait(sentence, row["probing_since"], "it answers, and the others follow step by step")
        used = f"{row['in_use']} of {row['most']}"
        if row["state"] == Resource.State.RAMPING:
            sentence = f"Resource {name} answers again after “too much”: {used} places at once are taken."
            step = f"{conf.settings().ramp_seconds:g} s"
            return wait(sentence, row["ramping_since"], f"there are twice as many places after each {step}")
        sentence = f"Resource {name} is limited to {row['most']} at once: {used} places are taken."
        return wait(sentence, None, "one that uses it ends, or its limit is raised")
    if row["starts_later"]:
        at = times.written(row["next_start_at"])
        sentence = f"Resource {name} is limited to {row['max_per_minute']:,} starts a minute: the next is at {at}."
        return wait(sentence, None, "its time comes, or the limit is raised")
    return None


_OWN = f"""
    EXISTS (SELECT FROM {SLICE} AS own JOIN {STAGE} AS mine ON mine.id = own.stage_run_id
             WHERE mine.run_id = stage.run_id AND own.lease_token IS NOT NULL AND own.finished_at IS NULL
               AND mine.definition->'uses' ? resource.name)
"""
_WAITS = f"""
    SELECT DISTINCT ON (resource.name) resource.name, resource.state, {LIMIT} AS most, {IN_USE} AS in_use,
           {_OWN} AS own, coalesce({IN_USE} + {_WEIGHT} > {LIMIT}, false) AS is_full, {STARTS_LATER} AS starts_later,
           resource.max_per_minute, resource.next_start_at, resource.probing_since, resource.ramping_since
      FROM {STAGE} AS stage JOIN {RESOURCE} AS resource ON resource.name IN {USED}
     WHERE stage.run_id = %(run)s AND stage.lifecycle = 'running' AND {IS_LIMITED}
     ORDER BY resource.name, is_full DESC
"""

_WAITING = f"""
    SELECT DISTINCT stage.run_id
      FROM {STAGE} AS stage JOIN {RESOURCE} AS resource ON resource.name IN {USED}
     WHERE stage.run_id = ANY(%(runs)s::uuid[]) AND stage.lifecycle = 'running' AND {IS_LIMITED}
       AND (coalesce({IN_USE} + {_WEIGHT} > {LIMIT}, false) OR {STARTS_LATER}) AND NOT {_OWN}
"""
