"""Checkpoints: outputs, failures, counts and cursor of a slice in one statement, fenced like all that ``leases`` does.

One statement is one transaction and one round trip, so that it can be in progress while the loop works on.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import connection, transaction

from automation import conf
from automation.errors import LeaseLost
from automation.items.background_connection import numbered
from automation.items.leased_slice import LeasedSlice
from automation.items.units import Failure
from automation.leases.lease_columns import NO_LEASE
from automation.models.tables import ITEM, ITEM_CHUNK, ITEM_FAILURE, ITEM_STATE, SLICE

INTERVAL_SECONDS = 0.1
"""Between two checkpoints of a stage that does not say: so much work is done again after a crash."""


@dataclass(slots=True)
class Progress:
    """What a checkpoint commits: the new cursor, counts, outputs as ``copying.output_rows``, failures, work seconds."""

    cursor: str
    processed: int = 0
    failed: int = 0
    outputs: list[bytes] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    busy_seconds: float = 0.0
    size: int = 0
    """Bytes of the outputs."""
    staged: dict[str, int] = field(default_factory=dict)
    """Keys of items of which something was committed before they ended, and how many outputs of it are to be kept."""

    @property
    def is_empty(self) -> bool:
        """Whether it moves the cursor over nothing."""
        return not (self.processed or self.failed)


def commit(work: LeasedSlice, done: Progress, *, release: bool = False) -> bool:
    """Commit outputs, failures, counts and cursor in one transaction; True if the slice is finished by it.

    ``release`` gives the slice back in the same transaction.
    Raises :class:`LeaseLost`, having changed nothing, if the token is not in force.
    """
    ends = release or _finishes(work, done)
    with transaction.atomic() if done.staged else nullcontext(), connection.cursor() as cursor:
        if done.staged:
            cursor.execute(_SETTLE, _staged_facts(work, done))
        facts = _facts(work, done)
        cursor.execute(_END if ends else _MOVE_ON, facts | {"outputs": facts["outputs"].decode()})
        (moved,) = cursor.fetchone()
        if not moved:
            raise _lost(work)
    accept(work, done, has_moved=True)
    return _finishes(work, done)


def statement(work: LeasedSlice, done: Progress) -> tuple[bytes, list[bytes | None]]:
    """``commit`` for a background connection; ``accept`` takes its result. Nothing may be ``staged``."""
    assert not done.staged
    text, names = _END_IN_BACKGROUND if _finishes(work, done) else _MOVE_ON_IN_BACKGROUND
    facts = _facts(work, done)
    return text, [_as_bytes(facts[name]) for name in names]


def accept(work: LeasedSlice, done: Progress, has_moved: bool) -> None:
    """Note that ``done`` is committed, or raise :class:`LeaseLost` if the token was not in force."""
    if not has_moved:
        raise _lost(work)
    if done.cursor != work.cursor:
        work.crashes = work.expiries = work.waits = 0
        work.waited_seconds = 0.0
    work.cursor = done.cursor
    work.done += done.processed + done.failed


def _lost(work: LeasedSlice) -> LeaseLost:
    return LeaseLost(f"Cannot checkpoint slice {work.slice_id}: it is no longer held under token {work.token}.")


def _staged_facts(work: LeasedSlice, done: Progress) -> dict[str, Any]:
    return {
        "slice": work.slice_id,
        "token": work.token,
        "old": work.cursor,
        "keys": list(done.staged),
        "counts": list(done.staged.values()),
    }


def _finishes(work: LeasedSlice, done: Progress) -> bool:
    return bool(done.cursor) and done.cursor == work.last_key


def _facts(work: LeasedSlice, done: Progress) -> dict[str, Any]:
    return {
        "slice": work.slice_id,
        "token": work.token,
        "old": work.cursor,
        "cursor": done.cursor,
        "processed": done.processed,
        "failed": done.failed,
        "busy": done.busy_seconds,
        "lease": conf.settings().lease_seconds,
        "is_finished": _finishes(work, done),
        "outputs": b"\n".join(done.outputs),
        "failures": orjson.dumps([tuple(failure) for failure in done.failures]).decode(),
    }


def _as_bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


# The slice is locked first and moved last: the lease counts from the time when all outputs are written.
_MOVE = f"""
    WITH held AS MATERIALIZED (
        SELECT id, stage_run_id FROM {SLICE}
         WHERE id = %(slice)s::bigint AND lease_token = %(token)s::bigint AND cursor = %(old)s::varchar
           FOR NO KEY UPDATE
    ), made AS (
        INSERT INTO {ITEM} (made_by_id, key, payload)
        SELECT stage_run_id, split_part(line, E'\\t', 1), split_part(line, E'\\t', 2)::jsonb
          FROM held, string_to_table(%(outputs)s, E'\\n') AS line
     RETURNING 1
    ), given_up AS (
        INSERT INTO {ITEM_FAILURE} (stage_run_id, key, payload, error, attempts)
        SELECT stage_run_id, failure->>0, failure->1, failure->>2, (failure->>3)::smallint
          FROM held, jsonb_array_elements(%(failures)s::jsonb) AS failure
     RETURNING 1
    ), moved AS (
        UPDATE {SLICE} AS slice
           SET cursor = %(cursor)s::varchar,
               processed = processed + %(processed)s::int, failed = failed + %(failed)s::int,
               crashes = CASE WHEN %(cursor)s::varchar = cursor THEN crashes ELSE 0 END,
               expiries = CASE WHEN %(cursor)s::varchar = cursor THEN expiries ELSE 0 END,
               waits = CASE WHEN %(cursor)s::varchar = cursor THEN waits ELSE 0 END,
               waited_seconds = CASE WHEN %(cursor)s::varchar = cursor THEN waited_seconds ELSE 0 END,
               waits_for = CASE WHEN %(cursor)s::varchar = cursor THEN waits_for ELSE '' END,
               overrun_attempts = CASE WHEN overrun_key = '' AND %(cursor)s::varchar <> cursor
                                       THEN 0 ELSE overrun_attempts END,
               busy_seconds = busy_seconds + %(busy)s::float8, {{rest}}
          FROM held, (SELECT count(*) FROM made) AS outputs, (SELECT count(*) FROM given_up) AS failures
         WHERE slice.id = held.id
     RETURNING 1
    )
    SELECT count(*) FROM moved
"""
_MOVE_ON = _MOVE.format(rest="lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s::float8)")
_END = _MOVE.format(
    rest="finished_at = CASE WHEN %(is_finished)s::boolean THEN clock_timestamp() END, "
    "finished_token = CASE WHEN %(is_finished)s::boolean THEN lease_token END, " + NO_LEASE
)


_SETTLE = f"""
    WITH held AS MATERIALIZED (
        SELECT id, stage_run_id FROM {SLICE}
         WHERE id = %(slice)s AND lease_token = %(token)s AND cursor = %(old)s FOR NO KEY UPDATE
    ), staged AS MATERIALIZED (
        SELECT stage_run_id, key, outputs FROM held, unnest(%(keys)s::varchar[], %(counts)s::bigint[])
            AS staged(key, outputs)
    ), made AS (
        INSERT INTO {ITEM} (made_by_id, key, payload)
        SELECT chunk.stage_run_id, split_part(line, E'\\t', 1), split_part(line, E'\\t', 2)::jsonb
          FROM staged JOIN {ITEM_CHUNK} AS chunk USING (stage_run_id, key), string_to_table(chunk.rows, E'\\n') AS line
         WHERE chunk.ordinal < staged.outputs
    ), chunks AS (
        DELETE FROM {ITEM_CHUNK} AS chunk USING staged
         WHERE chunk.stage_run_id = staged.stage_run_id AND chunk.key = staged.key
    )
    DELETE FROM {ITEM_STATE} AS state USING staged
     WHERE state.stage_run_id = staged.stage_run_id AND state.key = staged.key
"""
"""What was committed of items before they ended, see ``items.partial_items``, becomes items or goes."""

_MOVE_ON_IN_BACKGROUND = numbered(_MOVE_ON)
_END_IN_BACKGROUND = numbered(_END)
