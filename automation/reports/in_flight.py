"""Workers and the items they process: read from the leases, recorded with a pause or cancel, shown live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from automation.models.tables import ITEM, SLICE, STAGE
from pause_manager import scopes

_LEASED = f"""
    SELECT stage.run_id, stage.slug, slice.id, slice.lease_owner, slice.lease_node, slice.leased_at,
           slice.phase, long.since, CASE WHEN long.since IS NOT NULL THEN slice.item_limit END,
           item.keys, item.payloads
      FROM {SLICE} AS slice JOIN {STAGE} AS stage ON stage.id = slice.stage_run_id
     CROSS JOIN LATERAL (
            SELECT CASE WHEN slice.phase <> 1 OR slice.item_key > slice.cursor THEN slice.item_since END AS since
           ) AS long
      LEFT JOIN LATERAL (
            SELECT array_agg(key) AS keys, array_agg(payload::text) AS payloads FROM (
                SELECT key, payload FROM {ITEM}
                 WHERE made_by_id = slice.source_id AND key >= slice.first_key AND key > slice.cursor
                   AND key >= slice.item_key AND key <= slice.last_key
                 ORDER BY key LIMIT 2) AS next) AS item ON true
     WHERE slice.lease_token IS NOT NULL AND slice.finished_at IS NULL AND stage.run_id = ANY(%s::uuid[])
     ORDER BY stage.position, slice.phase, slice.ordinal
"""


def of_runs(run_ids: Sequence[UUID]) -> dict[str, dict[str, Any]]:
    """By scope ``run:x``: ``{"in_flight": [{worker, node, stage, slice, item, since}]}`` for runs that have leases.

    ``item`` is the key after the committed cursor: exact for items longer than a checkpoint interval, else the first
    of the few in progress. ``prepare`` and ``finish`` stand for the hooks.
    """
    found: dict[str, dict[str, Any]] = {}
    for lease in leases_of(run_ids):
        entry = {name: lease[name] for name in ("worker", "node", "stage", "slice", "item")}
        entry["since"] = lease["since"].isoformat()
        found.setdefault(scopes.run(lease["run"]), {"in_flight": []})["in_flight"].append(entry)
    return found


def leases_of(run_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """The leases of the runs, each with the item in progress and the one after it (``payloads``, two at most).

    For an item or hook that has run for some seconds, ``item_since`` is its start and ``item_limit`` its time limit.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LEASED, [[str(pk) for pk in run_ids]])
        rows = cursor.fetchall()
    hooks = {0: "prepare", 2: "finish"}
    return [
        {
            "run": run_id,
            "stage": slug,
            "slice": slice_id,
            "worker": owner,
            "node": node,
            "since": leased_at,
            "item_since": item_since,
            "item_limit": item_limit,
            "item": hooks.get(phase) or (item_keys[0] if item_keys else None),
            "items": [
                {"key": key, "payload": orjson.loads(text)}
                for key, text in zip(item_keys or (), payloads or (), strict=True)
            ],
        }
        for run_id, slug, slice_id, owner, node, leased_at, phase, item_since, item_limit, item_keys, payloads in rows
    ]
