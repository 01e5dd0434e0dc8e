"""The items that come next."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from automation.models.tables import ITEM, RUN, SLICE, STAGE
from automation.reports import item_labels

_NEXT = f"""
    SELECT slice.pipeline, slice.slug, item.key, item.payload
      FROM (SELECT run.pipeline, stage.slug, stage.position, slice.*
              FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
              JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
             WHERE stage.run_id = %(run)s AND stage.lifecycle = 'running'
               AND slice.finished_at IS NULL AND slice.phase = 1
             ORDER BY stage.position, slice.ordinal LIMIT %(slices)s) AS slice
     CROSS JOIN LATERAL (
            SELECT key, payload::text FROM {ITEM}
             WHERE made_by_id = slice.source_id AND key >= slice.first_key AND key > slice.cursor
               AND key <= slice.last_key
             ORDER BY key OFFSET (slice.lease_token IS NOT NULL)::int LIMIT %(items)s) AS item
     ORDER BY slice.position, slice.ordinal, item.key LIMIT %(items)s
"""


def of_run(run_id: UUID, count: int = 5) -> list[dict[str, Any]]:
    """The next ``count`` items to start, as ``{stage, key, title}``; items in progress are not among them."""
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, {"run": run_id, "items": count, "slices": 100})
        rows = cursor.fetchall()
    return [
        {"stage": slug, "key": key, "title": item_labels.label_of(pipeline, slug, orjson.loads(text), key)}
        for pipeline, slug, key, text in rows
    ]
