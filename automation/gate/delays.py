"""Delays of a run: between the batches of a stage, and between stages. They are due times; nobody waits for them.

A stage with ``batch_delay`` hands out one slice after the other. The next one is due so long after the last has ended,
which is read from its row (``StageRun.batch_id``): whatever dies, there is nothing to correct. A slice that was begun
belongs to a batch that is in progress, and waits for nothing. A stage does not begin before its ``begins_at``.

The clock of a delay is the wall clock: a pause does not stop it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from automation.models.tables import RUN, SLICE, STAGE
from automation.pipeline.definition import BATCH_DELAY
from pause_manager import times
from pause_manager.reasons import ReasonCode

CODE = ReasonCode.DELAY

BATCH_ENDED_AT = f"(SELECT batch.finished_at FROM {SLICE} AS batch WHERE batch.id = stage.batch_id)"
"""SQL over ``stage``, as all that follow: when its last batch has ended; null: it has not, or there was none."""
NEXT_BATCH_AT = f"({BATCH_ENDED_AT} + make_interval(secs => {BATCH_DELAY}))"
HANDS_OUT = f"""
    ({BATCH_DELAY} = 0 OR stage.batch_id IS NULL OR coalesce({NEXT_BATCH_AT} <= statement_timestamp(), false))
"""
"""A new batch may begin, as far as delays go; one that was begun may always continue."""

_NO_BATCH_CONTINUES = f"""
    NOT EXISTS (SELECT FROM {SLICE} AS begun
                 WHERE begun.stage_run_id = stage.id AND begun.is_begun AND begun.finished_at IS NULL
                   AND (begun.lease_token IS NOT NULL OR begun.available_at IS NULL
                        OR begun.available_at <= statement_timestamp()))
"""
_BATCHES_ARE_LEFT = f"""
    coalesce((SELECT phase FROM {SLICE} WHERE stage_run_id = stage.id AND finished_at IS NULL
               ORDER BY phase LIMIT 1) = 1, false)
"""
STARTS_LATER = "coalesce(stage.begins_at > statement_timestamp(), false)"
"""It waits between stages."""
BETWEEN_BATCHES = f"""
    (stage.batch_id IS NOT NULL AND {BATCH_DELAY} > 0
     AND coalesce({NEXT_BATCH_AT} > statement_timestamp(), false)
     AND {_BATCHES_ARE_LEFT} AND {_NO_BATCH_CONTINUES})
"""
"""Its next batch is not due, and nothing of the last is left to do."""
WAITS = f"({STARTS_LATER} OR {BETWEEN_BATCHES})"
"""Either."""

ALONE = f"""
    NOT EXISTS (SELECT FROM {STAGE} AS beside
                 WHERE beside.run_id = stage.run_id AND beside.id <> stage.id AND beside.position >= 0
                   AND beside.started_at IS NOT NULL
                   AND coalesce(beside.begins_at, beside.started_at) < {{until}}
                   AND coalesce(beside.finished_at, 'infinity') > {{since}})
"""
"""No other stage of the run was to be worked on then. ``since`` and ``until`` are SQL."""


@dataclass(frozen=True)
class Delay:
    """One stage that waits; as ``gate.Reason``."""

    stage: str
    sentence: str
    since: datetime
    starts_at: datetime


def of(run_ids: Iterable[UUID]) -> dict[UUID, list[Delay]]:
    """What the running stages of each run wait for by their delays. One statement."""
    found: dict[UUID, list[Delay]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_DELAYS, [list(run_ids)])
        for run_id, *row in cursor.fetchall():
            found.setdefault(run_id, []).append(_delay(*row))
    return found


def _delay(
    slug: str, starts_later: bool, since: datetime, starts_at: datetime, batch_delay: float, stage_delay: float
) -> Delay:
    at = times.written(starts_at)
    if starts_later:
        sentence = f"Stage {slug} starts at {at}: this run waits {times.length(stage_delay)} between stages."
    else:
        which = f"The next batch of stage {slug} starts at {at}"
        sentence = f"{which}: this run waits {times.length(batch_delay)} between batches."
    return Delay(slug, sentence, since, starts_at)


def waiting_among(run_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the runs of which a running stage waits. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [list(run_ids)])
        return {row[0] for row in cursor.fetchall()}


_DELAYS = f"""
    SELECT stage.run_id, stage.slug, {STARTS_LATER},
           CASE WHEN {STARTS_LATER} THEN stage.started_at ELSE {BATCH_ENDED_AT} END,
           CASE WHEN {STARTS_LATER} THEN stage.begins_at ELSE {NEXT_BATCH_AT} END,
           {BATCH_DELAY}, coalesce((stage.definition->>'stage_delay')::float8, 0)
      FROM {STAGE} AS stage
     WHERE stage.run_id = ANY(%s::uuid[]) AND stage.lifecycle = 'running' AND {WAITS}
     ORDER BY stage.run_id, stage.position
"""

_WAITING = f"""
    SELECT DISTINCT stage.run_id
      FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE stage.run_id = ANY(%s::uuid[]) AND run.lifecycle = 'running' AND stage.lifecycle = 'running' AND {WAITS}
"""
