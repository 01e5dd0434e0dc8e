"""Renewal of leases, by heartbeat; it returns what their holders must know of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from automation import conf
from automation.items.leased_slice import LeasedSlice
from automation.leases.lease_columns import ITEM_AT
from automation.models.tables import RUN, SLICE, STAGE
from pause_manager.holds.stops import Stop

LEASE_LOST = Stop("lease_lost", "The slice was taken over by another worker.")


def heartbeat(work: LeasedSlice) -> Stop | None:
    """Extend the lease of ``work`` and return why its holder must stop, if it must."""
    with connection.cursor() as cursor:
        cursor.execute(
            _HEARTBEAT, {"slice": work.slice_id, "token": work.token, "lease": conf.settings().lease_seconds}
        )
        row = cursor.fetchone()
    if row is None:
        return LEASE_LOST
    lifecycle, is_cancel_requested, gives_way = row
    return run_stop(lifecycle, is_cancel_requested) or (Stop("yield", gives_way) if gives_way else None)


@dataclass(frozen=True)
class Loop:
    """A stage loop with the slice that it holds or, without one, its stage alone."""

    stage_run_id: int
    slice_id: int | None = None
    token: int | None = None
    is_told_to_end: bool = False
    """Whether its process was told to end: its death then proves nothing."""
    number: int | None = None
    """Position in the slice, from 0, of an item in progress for long; ``None`` if there is none."""
    seconds: float | None = None
    """How long that item has been in progress."""
    limit: float | None = None
    """How long it may take; ``None``: no limit."""


@dataclass(frozen=True)
class Renewed:
    """The state of a loop, read when its lease was renewed."""

    lifecycle: str | None
    """Of the run; ``None`` if the stage no longer exists."""
    is_cancel_requested: bool
    stage_lifecycle: str | None
    is_held: bool
    """Whether it still holds its slice."""
    is_renewed: bool
    gives_way: str


def renew(loops: Sequence[Loop]) -> list[Renewed]:
    """Extend the leases of all ``loops`` and return the state of each, in their order. One statement.

    It waits for no lock: a locked slice is about to be committed or taken, and is not renewed now.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _RENEW,
            {
                "stages": [loop.stage_run_id for loop in loops],
                "slices": [loop.slice_id for loop in loops],
                "tokens": [loop.token for loop in loops],
                "excused": [loop.is_told_to_end for loop in loops],
                "numbers": [loop.number for loop in loops],
                "seconds": [loop.seconds for loop in loops],
                "limits": [loop.limit for loop in loops],
                "lease": conf.settings().lease_seconds,
            },
        )
        return [Renewed(*row) for row in cursor.fetchall()]


def run_stop(lifecycle: str, is_cancel_requested: bool) -> Stop | None:
    """Why a loop of a run in this state must stop, holds background."""
    if is_cancel_requested:
        return Stop("cancelled", "The run is being cancelled.")
    if lifecycle != "running":
        return Stop("finished", f"The run is {lifecycle}.")
    return None


_HEARTBEAT = f"""
    UPDATE {SLICE} AS slice SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
      FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE slice.id = %(slice)s AND slice.lease_token = %(token)s AND stage.id = slice.stage_run_id
 RETURNING run.lifecycle, run.cancel_requested_at IS NOT NULL, slice.lease_yield
"""

_RENEW = f"""
    WITH loop AS MATERIALIZED (
        SELECT * FROM unnest(%(stages)s::bigint[], %(slices)s::bigint[], %(tokens)s::bigint[],
                             %(excused)s::boolean[], %(numbers)s::int[], %(seconds)s::float8[], %(limits)s::float8[])
            WITH ORDINALITY AS loop(stage, slice, token, is_told_to_end, item, seconds, may_take, number)
    ), free AS (
        SELECT slice.id, loop.is_told_to_end, loop.item, loop.seconds, loop.may_take FROM {SLICE} AS slice
          JOIN loop ON loop.slice = slice.id AND loop.token = slice.lease_token
         ORDER BY slice.id FOR NO KEY UPDATE OF slice SKIP LOCKED
    ), renewed AS (
        UPDATE {SLICE} AS slice
           SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
               lease_excused = lease_excused OR free.is_told_to_end,
               item_key = {ITEM_AT.format(number="free.item")},
               item_since = statement_timestamp() - make_interval(secs => free.seconds), item_limit = free.may_take
          FROM free WHERE slice.id = free.id
     RETURNING slice.id
    )
    SELECT run.lifecycle, run.cancel_requested_at IS NOT NULL, stage.lifecycle, slice.id IS NOT NULL,
           renewed.id IS NOT NULL, coalesce(slice.lease_yield, '')
      FROM loop
      LEFT JOIN {STAGE} AS stage ON stage.id = loop.stage
      LEFT JOIN {RUN} AS run ON run.id = stage.run_id
      LEFT JOIN {SLICE} AS slice ON slice.id = loop.slice AND slice.lease_token = loop.token
      LEFT JOIN renewed ON renewed.id = slice.id
     ORDER BY loop.number
"""
