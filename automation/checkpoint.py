"""Checkpoints: outputs, failures, counts and cursor of a slice in one statement, fenced like all that ``leases`` does.

One statement is one transaction and one round trip, so that it can be under way while the loop works on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from django.db import connection

from automation import conf, copying
from automation.errors import LeaseLost
from automation.leases import NO_LEASE, SLICE, Work
from automation.models import ItemFailure


class Failure(NamedTuple):
    """An item that is given up, for :class:`ItemFailure`. ``error`` has no NUL characters."""

    key: str
    payload: dict[str, Any]
    error: str
    attempts: int


@dataclass(slots=True)
class Progress:
    """What a checkpoint commits: the new cursor, counts, outputs as ``copying.output_rows``, failures, work seconds."""

    cursor: str
    processed: int = 0
    failed: int = 0
    outputs: list[bytes] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    busy_seconds: float = 0.0


def commit(work: Work, done: Progress, *, release: bool = False, available_in: float | None = None) -> bool:
    """Commit outputs, failures, counts and cursor in one transaction; True if the slice is finished by it.

    ``release`` gives the slice back in the same transaction, ``available_in`` seconds from now at the earliest.
    Raises :class:`LeaseLost`, having changed nothing, if the token is not in force.
    """
    ends = release or _finishes(work, done)
    with connection.cursor() as cursor:
        cursor.execute(_END if ends else _MOVE_ON, _facts(work, done) | {"available_in": available_in})
        (moved,) = cursor.fetchone()
    accept(work, done, bool(moved))
    return _finishes(work, done)


def statement(work: Work, done: Progress) -> tuple[bytes, list[bytes | None]]:
    """``commit`` for ``Aside.send``; its result, ``1`` or ``0``, is for ``accept``."""
    text, names = _END_ASIDE if _finishes(work, done) else _MOVE_ON_ASIDE
    facts = _facts(work, done) | {"available_in": None}
    return text, [_as_bytes(facts[name]) for name in names]


def accept(work: Work, done: Progress, has_moved: bool) -> None:
    """Note that ``done`` is committed, or raise :class:`LeaseLost` if the token was not in force."""
    if not has_moved:
        raise LeaseLost(f"Cannot checkpoint slice {work.slice_id}: it is no longer held under token {work.token}.")
    work.cursor = done.cursor


def _finishes(work: Work, done: Progress) -> bool:
    return bool(done.cursor) and done.cursor == work.last_key


def _facts(work: Work, done: Progress) -> dict[str, Any]:
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
        "outputs": b"\n".join(done.outputs).decode(),
        "failures": orjson.dumps([tuple(failure) for failure in done.failures]).decode(),
    }


def _as_bytes(value: Any) -> bytes | None:
    return None if value is None else str(value).encode()


_MOVE = f"""
    WITH moved AS (
        UPDATE {SLICE}
           SET cursor = %(cursor)s::varchar,
               processed = processed + %(processed)s::int, failed = failed + %(failed)s::int,
               crashes = CASE WHEN %(cursor)s::varchar = cursor THEN crashes ELSE 0 END,
               busy_seconds = busy_seconds + %(busy)s::float8, {{rest}}
         WHERE id = %(slice)s::bigint AND lease_token = %(token)s::bigint AND cursor = %(old)s::varchar
     RETURNING stage_run_id
    ), made AS (
        INSERT INTO {copying.ITEM} (made_by_id, key, payload)
        SELECT stage_run_id, split_part(line, E'\\t', 1), split_part(line, E'\\t', 2)::jsonb
          FROM moved, string_to_table(%(outputs)s, E'\\n') AS line
    ), given_up AS (
        INSERT INTO {ItemFailure._meta.db_table} (stage_run_id, key, payload, error, attempts)
        SELECT stage_run_id, failure->>0, failure->1, failure->>2, (failure->>3)::smallint
          FROM moved, jsonb_array_elements(%(failures)s::jsonb) AS failure
    )
    SELECT count(*) FROM moved
"""
_MOVE_ON = _MOVE.format(rest="lease_expires_at = statement_timestamp() + make_interval(secs => %(lease)s::float8)")
_END = _MOVE.format(
    rest="finished_at = CASE WHEN %(is_finished)s::boolean THEN statement_timestamp() END, "
    "finished_token = CASE WHEN %(is_finished)s::boolean THEN lease_token END, "
    "available_at = statement_timestamp() + make_interval(secs => %(available_in)s::float8), " + NO_LEASE
)


def _numbered(statement: str) -> tuple[bytes, list[str]]:
    """``statement`` with ``$1`` … for ``%(name)s``, and the names in that order."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    return (statement % {name: f"${number}" for number, name in enumerate(names, 1)}).encode(), names


_MOVE_ON_ASIDE = _numbered(_MOVE_ON)
_END_ASIDE = _numbered(_END)
