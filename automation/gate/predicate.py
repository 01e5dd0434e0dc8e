"""The gate as SQL, for claims and dispatch, and the scopes whose holds it looks for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from automation.gate import (
    delays,
    file_sharing,
    installed_code,
    resource_limits,
)
from automation.models import AutomationRun, StageRun
from automation.pipeline import definition
from automation.pipeline.definition import IS_PLAIN, QUEUE, Definition
from pause_manager import conf, scopes
from pause_manager.models import Hold, WorkerNode

_HOLD = Hold._meta.db_table
_NODE = WorkerNode._meta.db_table
_LIVE = "node.last_seen_at > statement_timestamp() - make_interval(secs => %(node_seconds)s::float8)"

ALL_NODES_HELD = f"""
    (EXISTS (SELECT 1 FROM {_NODE} AS node WHERE {_LIVE})
     AND NOT EXISTS (
        SELECT 1 FROM {_NODE} AS node
         WHERE {_LIVE} AND NOT EXISTS (
            SELECT 1 FROM {_HOLD} AS hold WHERE hold.released_at IS NULL AND hold.scope = 'node:' || node.name)))
"""
"""SQL: there are live nodes, and a hold on each. ``node_seconds`` is of :func:`node_seconds`."""
USES_HELD = f"""
    EXISTS (SELECT 1 FROM jsonb_array_elements_text(stage.definition->'uses') AS used(name)
              JOIN {_HOLD} AS hold ON hold.released_at IS NULL AND hold.scope = 'resource:' || used.name)
"""
"""SQL over ``stage``: a resource that it uses is held."""

_OPEN_IF_PLAIN = f"""
    run.finished_at IS NULL AND run.lifecycle = 'running' AND run.cancel_requested_at IS NULL
    AND run.lane_seat_at IS NOT NULL
    AND {installed_code.IS_HERE}
    AND NOT {file_sharing.APART}
    AND NOT EXISTS (
        SELECT 1 FROM {_HOLD} AS hold
         WHERE hold.released_at IS NULL
           AND hold.scope IN ('fleet', 'pipeline:' || run.pipeline, 'lane:' || run.lane, 'run:' || run.id,
                              'queue:' || {QUEUE}))
    AND NOT {ALL_NODES_HELD}
    AND NOT {delays.STARTS_LATER}
"""
OPEN = f"""
    {_OPEN_IF_PLAIN}
    AND NOT {delays.BETWEEN_BATCHES}
    AND NOT {USES_HELD}
    AND {resource_limits.HAVE_PLACES}
"""
"""SQL over ``run`` and ``stage``: nothing keeps the stage. The statement is given :func:`values`."""
OPEN_IF_PLAIN = f"({IS_PLAIN} AND {_OPEN_IF_PLAIN})"
"""The same, shorter by a third to plan, for a stage without resources and delays between batches; else false."""


def values() -> dict[str, Any]:
    """What a statement with ``OPEN`` is given."""
    return {
        "node_seconds": node_seconds(),
        "installed": installed_code.keys(),
        **file_sharing.values(),
        **resource_limits.values(),
    }


VALUE_TYPES = {
    "node_seconds": "float8",
    "installed": "text[]",
    "filing": "text[]",
    "gone_seconds": "float8",
    "ramp_seconds": "float8",
}
"""The types of :func:`values`, as SQL."""


def node_seconds() -> float:
    """A node that the database has not heard of for so long is nowhere to go, held or not."""
    return conf.settings().unknown_seconds


def scopes_of(run: AutomationRun) -> list[str]:
    """Every scope whose holds cover ``run``, with the queues and resources of its running stages.

    Before it starts, with those of its first stages.
    """
    return scopes_with(run, run.stages.current())


def scopes_with(run: AutomationRun, stage_runs: Iterable[StageRun]) -> list[str]:
    stages = [definition.of(stage_run) for stage_run in stage_runs if stage_run.definition]
    queues = {f"queue:{stage.queue}" for stage in stages}
    used = {scopes.resource(name) for stage in stages for name in stage.uses}
    return [*_scopes(run), *sorted(queues), *sorted(used)]


def covering_scopes(run: AutomationRun, stage: Definition, *, node: str | None) -> list[str]:
    """Every scope whose holds reach who works for ``run`` on ``node``, in ``stage``.

    ``None`` is the machine of the worker, which knows what that is called by the time it looks.
    """
    used = map(scopes.resource, stage.uses)
    return [*_scopes(run), f"queue:{stage.queue}", *used, *([] if node is None else [f"node:{node}"])]


def _scopes(run: AutomationRun) -> list[str]:
    return ["fleet", f"pipeline:{run.pipeline}", f"lane:{run.lane}", run.scope]


def holds_of_all_nodes() -> list[Hold]:
    """The holds on the live nodes, if there is no live node without one: then there is nowhere to go."""
    live = WorkerNode.objects.seen_within(timedelta(seconds=node_seconds()))
    names = list(live.values_list("name", flat=True))
    held = list(Hold.objects.covering(f"node:{name}" for name in names)) if names else []
    return held if {hold.scope for hold in held} == {f"node:{name}" for name in names} else []
