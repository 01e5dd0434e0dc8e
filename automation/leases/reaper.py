"""The end of leases by others: of those that have expired or whose owner is dead, and of those asked to give way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from automation import conf
from automation.leases.lease_columns import NOBODY
from automation.leases.releases import Lost
from automation.models.tables import SLICE, STAGE
from pause_manager import holds
from pause_manager.models import Hold


def reap(dead: Sequence[str] = (), *, crashed: Sequence[str] = (), alive: Sequence[str] = ()) -> list[Lost]:
    """End the leases that have expired or whose owner is known to be ``dead``; each at most once over all callers.

    For an owner that has ``crashed``, the current item is to blame. An owner that is ``alive`` and only silent keeps
    its lease ``silent_leases`` times as long. While the fleet is held no lease ends: lost slices are shown as lost.
    """
    settings = conf.settings()
    values: dict[str, Any] = {
        "dead": [*dead, *crashed],
        "crashed": list(crashed),
        "alive": list(alive),
        "patience": settings.lease_seconds * max(0.0, settings.silent_leases - 1),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(holds.TAKE_SHARE)
        cursor.execute(_REAP, values)
        return [Lost(*row) for row in cursor.fetchall()]


def request_yield(slice_ids: Sequence[int], reason: str) -> int:
    """Ask the holders of the slices to give them back at the next item; returns how many were asked."""
    with connection.cursor() as cursor:
        cursor.execute(_YIELD, {"slices": list(slice_ids), "reason": reason})
        return int(cursor.rowcount)


def request_yield_of(resource: str, reason: str) -> int:
    """Ask every holder whose stage uses ``resource`` to give its slice back at the next item; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_YIELD_RESOURCE, {"resource": resource, "reason": reason})
        return int(cursor.rowcount)


# A writer of several slices locks them by id.
_YIELD = f"""
    UPDATE {SLICE} AS slice SET lease_yield = %(reason)s
      FROM (SELECT id FROM {SLICE}
             WHERE id = ANY(%(slices)s) AND lease_token IS NOT NULL AND finished_at IS NULL AND lease_yield = ''
             ORDER BY id FOR NO KEY UPDATE) AS asked
     WHERE slice.id = asked.id
"""

_YIELD_RESOURCE = f"""
    UPDATE {SLICE} AS slice SET lease_yield = %(reason)s
      FROM (SELECT lease.id FROM {SLICE} AS lease JOIN {STAGE} AS stage ON stage.id = lease.stage_run_id
             WHERE lease.lease_token IS NOT NULL AND lease.finished_at IS NULL AND lease.lease_yield = ''
               AND stage.definition->'uses' ? %(resource)s
             ORDER BY lease.id FOR NO KEY UPDATE OF lease) AS asked
     WHERE slice.id = asked.id
"""

_REAP = f"""
    WITH lost AS (
        SELECT id, lease_owner = ANY(%(crashed)s::text[]) AS is_crash FROM {SLICE}
         WHERE lease_token IS NOT NULL AND finished_at IS NULL
           AND (lease_owner = ANY(%(dead)s::text[])
                OR lease_expires_at < clock_timestamp() - make_interval(secs =>
                       CASE WHEN lease_owner = ANY(%(alive)s::text[]) THEN %(patience)s::float8 ELSE 0 END))
           AND NOT EXISTS (SELECT 1 FROM {Hold._meta.db_table} WHERE released_at IS NULL AND scope = 'fleet')
         ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE {SLICE} AS slice
       SET crashes = crashes + lost.is_crash::int, expiries = expiries + (NOT lost.is_crash)::int,
           lost_at = clock_timestamp(), {NOBODY}
      FROM lost WHERE slice.id = lost.id
 RETURNING slice.id, slice.stage_run_id, slice.crashes, slice.expiries, slice.is_alone, lost.is_crash
"""
