"""What keeps runs that nobody works on, as SQL: for lists and figures of more runs than one look could judge.

The same as :func:`automation.gate.blocked`, which a test compares. A list leaves out what cannot be read, see
:func:`kept_ids`; an error in a figure is that statement's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.db import connection, transaction
from django.db.models.expressions import RawSQL

from automation.gate import delays, dependencies, file_sharing, installed_code, lane_order, resource_limits
from automation.gate.predicate import ALL_NODES_HELD, USES_HELD, node_seconds
from automation.models.tables import RUN, SLICE, STAGE
from automation.pipeline.definition import QUEUE
from pause_manager.models import Hold, Override
from pause_manager.observability import gate_health
from pause_manager.observability.gate_health import Layer

_HOLD = Hold._meta.db_table

IS_LEASED = f"""
    EXISTS (SELECT FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
             WHERE stage.run_id = run.id AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL)
"""
"""SQL over ``run``: a worker or agent holds a slice of it."""

IS_KEPT = f"""
    (run.lifecycle IN ('pending', 'running') AND (run.lifecycle = 'pending' OR NOT {IS_LEASED}) AND (
        (run.lane_seat_at IS NULL AND run.start_requested_at IS NOT NULL AND run.id NOT IN ({lane_order.NEXT}))
        OR run.copying IS NOT NULL
        OR (run.started_at IS NULL AND {dependencies.unmet("run")})
        OR EXISTS (SELECT 1 FROM {_HOLD} AS hold
                    WHERE hold.released_at IS NULL
                      AND hold.scope IN ('fleet', 'pipeline:' || run.pipeline, 'lane:' || run.lane, 'run:' || run.id))
        OR {ALL_NODES_HELD}
        OR EXISTS (
            SELECT 1 FROM {STAGE} AS stage
             WHERE stage.run_id = run.id AND stage.position >= 0
               AND (stage.lifecycle = 'running' OR (run.lifecycle = 'pending' AND stage.position = 0)
                    OR stage.definition IS NULL)
               AND (NOT coalesce({installed_code.IS_HERE}, false) OR {USES_HELD} OR EXISTS (
                        SELECT 1 FROM {_HOLD} AS hold
                         WHERE hold.released_at IS NULL AND hold.scope = 'queue:' || {QUEUE})
                    OR (run.lifecycle = 'running' AND stage.lifecycle = 'running'
                        AND (NOT {resource_limits.HAVE_PLACES} OR {delays.WAITS}))))
        OR {file_sharing.APART}
        OR (run.start_requested_at IS NULL AND {lane_order.MUST_WAIT})
    ))
"""
"""SQL over ``run``: nobody works on it, and something keeps it. The statement is given :func:`values`."""


def values() -> dict[str, Any]:
    """What a statement with ``IS_KEPT`` is given."""
    return {name: value for read in set(_READ.values()) for name, value in read().items()}


_READ: dict[str, Callable[[], dict[str, Any]]] = {
    "node_seconds": lambda: {"node_seconds": node_seconds()},
    "installed": lambda: {"installed": installed_code.keys()},
    "filing": file_sharing.values,
    "gone_seconds": file_sharing.values,
    "ramp_seconds": resource_limits.values,
}


class _Values(dict[str, Any]):
    """The same, each read when it is asked for: what one layer needs cannot fail for another's."""

    def __missing__(self, name: str) -> Any:
        self.update(_READ[name]())
        return self[name]


def kept_ids() -> RawSQL:
    """The ids of the runs that nobody works on and something keeps, for a condition ``pk__in``.

    What cannot be read is left out of the statement and counts as in ``gate.blocked``: it keeps everybody, but for the
    order of a lane, which keeps nobody.
    """
    is_kept = IS_KEPT if _is_readable(f"({IS_KEPT} OR {_LAYERS[Layer.OVERRIDES]})") else _of_readable_layers()
    return _raw(f"SELECT run.id FROM {RUN} AS run WHERE run.finished_at IS NULL AND {is_kept}")


def _raw(named: str) -> RawSQL:
    known = _Values()
    given: list[Any] = []

    def by_place(name: re.Match[str]) -> str:
        given.append(known[name[1]])
        return "%s"

    # Django's own parameters have places, not names.
    return RawSQL(re.sub(r"%\((\w+)\)s", by_place, named), given)


def _is_readable(condition: str) -> bool:
    """Whether PostgreSQL can carry out ``condition``, over ``run``. It is asked for no row."""
    try:
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            _ask(condition)
    except Exception:
        return False
    return True


def _ask(condition: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {RUN} AS run WHERE run.id IS NULL AND {condition}", _Values())


def _of_readable_layers() -> str:
    """``IS_KEPT`` without what cannot be read, which is counted by its layer."""
    parts = []
    for layer, condition in _LAYERS.items():
        try:
            with gate_health.guarded_read(layer):
                _ask(condition)
            parts.append(condition)
        except Exception:
            parts.append("false" if layer.is_open else _CLOSED.get(layer, "true"))
    return f"({_MAY_BE_KEPT} AND (run.copying IS NOT NULL OR {' OR '.join(parts)}))"


def _at_a_stage(condition: str) -> str:
    return f"""
        EXISTS (SELECT 1 FROM {STAGE} AS stage
                 WHERE stage.run_id = run.id AND stage.position >= 0
                   AND (stage.lifecycle = 'running' OR (run.lifecycle = 'pending' AND stage.position = 0)
                        OR stage.definition IS NULL)
                   AND {condition})
    """


_MAY_BE_KEPT = f"run.lifecycle IN ('pending', 'running') AND (run.lifecycle = 'pending' OR NOT {IS_LEASED})"
_HAS_STARTED = "run.lifecycle = 'running'"
_LAYERS = {
    Layer.LANE: f"""
        ((run.lane_seat_at IS NULL AND run.start_requested_at IS NOT NULL AND run.id NOT IN ({lane_order.NEXT}))
         OR (run.start_requested_at IS NULL AND {lane_order.MUST_WAIT}))
    """,
    Layer.DEPENDENCY: f"(run.started_at IS NULL AND {dependencies.unmet('run')})",
    Layer.HOLDS: f"""
        (EXISTS (SELECT 1 FROM {_HOLD} AS hold
                  WHERE hold.released_at IS NULL
                    AND hold.scope IN ('fleet', 'pipeline:' || run.pipeline, 'lane:' || run.lane, 'run:' || run.id))
         OR {
        _at_a_stage(
            f"({USES_HELD} OR EXISTS (SELECT 1 FROM {_HOLD} AS hold"
            f" WHERE hold.released_at IS NULL AND hold.scope = 'queue:' || {QUEUE}))"
        )
    })
    """,
    Layer.NODE: ALL_NODES_HELD,
    Layer.CODE: _at_a_stage(f"NOT coalesce({installed_code.IS_HERE}, false)"),
    Layer.FILES: file_sharing.APART,
    Layer.RESOURCES: f"""
        ({_HAS_STARTED} AND {_at_a_stage(f"stage.lifecycle = 'running' AND NOT {resource_limits.HAVE_PLACES}")})
    """,
    Layer.DELAYS: f"""
        ({_HAS_STARTED} AND {_at_a_stage(f"stage.lifecycle = 'running' AND {delays.WAITS}")})
    """,
    Layer.OVERRIDES: f"EXISTS (SELECT FROM {Override._meta.db_table} WHERE false)",
}
"""``IS_KEPT`` in parts."""
_CLOSED = {
    Layer.DEPENDENCY: "run.started_at IS NULL",
    Layer.RESOURCES: _HAS_STARTED,
    Layer.DELAYS: _HAS_STARTED,
    Layer.OVERRIDES: _HAS_STARTED,
}
"""Whom a layer keeps that cannot be read, where that is not everybody."""
