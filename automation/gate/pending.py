"""What keeps runs that nobody works on, as SQL: for lists and figures of more runs than one look could judge.

The same as :func:`automation.gate.blocked`, which a test compares. What it reads is read by the statement that has it:
an error there is that statement's.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.models.expressions import RawSQL

from automation.gate import delays, dependencies, file_sharing, installed_code, lane_order, resource_limits
from automation.gate.predicate import ALL_NODES_HELD, USES_HELD, node_seconds
from automation.models.tables import RUN, SLICE, STAGE
from automation.pipeline.definition import QUEUE
from pause_manager.models import Hold

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
    return {
        "node_seconds": node_seconds(),
        "installed": installed_code.keys(),
        **file_sharing.values(),
        **resource_limits.values(),
    }


def kept_ids() -> RawSQL:
    """The ids of the runs that nobody works on and something keeps, for a condition ``pk__in``."""
    named = f"SELECT run.id FROM {RUN} AS run WHERE run.finished_at IS NULL AND {IS_KEPT}"
    known = values()
    given: list[Any] = []

    def by_place(name: re.Match[str]) -> str:
        given.append(known[name[1]])
        return "%s"

    # Django's own parameters have places, not names.
    return RawSQL(re.sub(r"%\((\w+)\)s", by_place, named), given)
