"""Copies the unfinished items of a run to the run that retries it, in batches that cost what they copy.

Each batch saves its position with the new run in the same transaction, so any process can copy the next one, however
much later. An item is copied before the outputs made from it, so that nothing is copied that is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import F
from psycopg.types.json import Jsonb

from automation.items import keys
from automation.models import AutomationRun, Lifecycle, SliceTotals, StageRun, WorkSlice
from automation.models.tables import ITEM, ITEM_FAILURE, SLICE
from automation.pipeline.definition import INPUT

BATCH = 2_000
"""Items per batch, if no slice is larger."""
SLICES = 500
"""Slices read per batch."""

Sources = Mapping[str, Sequence[str]]
"""By stage, the slugs of the stages whose outputs are its items; ``input`` is the run's input."""


@dataclass(frozen=True)
class Step:
    """The outputs of ``slug`` to copy: ``all``, or those that ``reader`` left in its ``slices`` or ``failures``."""

    slug: str
    how: str
    reader: str = ""


class Remainder:
    """The unfinished items of ``old``, to be copied to ``new``."""

    def __init__(self, old: AutomationRun, new: AutomationRun, sources: Sources) -> None:
        self._new = new
        self._sources = sources
        self._olds = {stage_run.slug: stage_run for stage_run in old.stages.order_by("position")}
        self._news = {stage_run.slug: stage_run for stage_run in new.stages.order_by("position")}
        self._steps = self._plan()
        self._forks = any(len(self._readers(slug)) > 1 for slug in self._olds)

    def copy_batch(self) -> bool:
        """Copy the next items, in the caller's transaction; False if nothing is left to copy.

        Updates ``new``: ``copying`` is the position, ``total_items`` the number of copied items.
        """
        at = self._new.copying or {"step": 0, "after": None}
        if at["step"] >= len(self._steps):
            return False
        step = self._steps[at["step"]]
        copied, after = self._copy(step, at["after"])
        at = {"step": at["step"], "after": after} if after is not None else {"step": at["step"] + 1, "after": None}
        self._new.copying = at
        self._new.total_items += copied
        self._new.save(update_fields=["copying", "total_items"])
        if copied and step.slug == INPUT:
            StageRun.objects.filter(pk=self._news[INPUT].pk).update(total_items=F("total_items") + copied)
        return True

    def copy_chosen(self, reader: str, keys: Sequence[str], payload: dict[str, Any] | None) -> int:
        """Copy the items with ``keys`` that failed in ``reader``, one with another ``payload`` if that is given.

        Returns how many; ``total_items`` of ``new`` is that, too.
        """
        if reader not in self._olds or reader not in self._news:
            return 0
        copied = 0
        for slug in self._sources.get(reader, ()):
            values: dict[str, Any] = {
                "old": self._olds[slug].pk,
                "new": self._news[slug].pk,
                "reader": self._olds[reader].pk,
                "prefix": self._prefix(slug, reader),
                "keys": list(keys),
                "payload": None if payload is None else Jsonb(payload),
            }
            with connection.cursor() as cursor:
                cursor.execute(_CHOSEN, values)
                found = cursor.rowcount
            if slug == INPUT:
                StageRun.objects.filter(pk=self._news[INPUT].pk).update(total_items=F("total_items") + found)
            copied += found
        self._new.total_items = copied
        self._new.save(update_fields=["total_items"])
        return copied

    def _plan(self) -> list[Step]:
        again = {slug for slug, stage_run in self._olds.items() if _must_repeat(stage_run)}
        steps = []
        for slug in self._olds:  # in order of position: an item's ancestors are copied before it
            if slug in again or self._comes_again(slug, again):
                continue  # made again
            readers = self._readers(slug)
            if any(reader in again or self._olds[reader].lifecycle == Lifecycle.PENDING for reader in readers):
                steps.append(Step(slug, "all"))
                continue
            for reader in readers:
                steps += [Step(slug, "slices", reader), Step(slug, "failures", reader)]
        return steps

    def _comes_again(self, slug: str, again: set[str]) -> bool:
        """Whether ``slug`` is fed, however indirectly, by a stage that is repeated."""
        return any(source in again or self._comes_again(source, again) for source in self._sources.get(slug, ()))

    def _readers(self, slug: str) -> list[str]:
        """The stages whose items are the outputs of ``slug``."""
        return [reader for reader, sources in self._sources.items() if slug in sources]

    def _prefix(self, slug: str, reader: str) -> str:
        """The prefix of ``reader`` for keys of items from ``slug``."""
        sources = self._sources[reader]
        return keys.of_source(list(sources).index(slug)) if len(sources) > 1 else ""

    def _copy(self, step: Step, after: Any) -> tuple[int, Any]:
        """Return how many items were copied, and after what the next batch begins; ``None`` at the end."""
        values: dict[str, Any] = {
            "old": self._olds[step.slug].pk,
            "new": self._news[step.slug].pk,
            "after": after if after is not None else (0 if step.how == "slices" else ""),
            "is_first": after is None,
            "size": BATCH,
            "slices": SLICES,
        }
        if step.reader:
            values |= {"reader": self._olds[step.reader].pk, "prefix": self._prefix(step.slug, step.reader)}
        with connection.cursor() as cursor:
            cursor.execute(_STATEMENTS[step.how].format(but=self._excluding_remade(step.slug, "item.key")), values)
            copied, read, last = cursor.fetchone()
        return copied, last if read else None

    def _excluding_remade(self, slug: str, key: str) -> str:
        """SQL that leaves out the outputs of ``slug`` that the new run makes itself, from an ancestor that it has.

        ``key`` is an SQL expression; an ancestor's key is the key without its last segment.
        """
        if slug == INPUT or not self._forks:
            return ""
        sources = self._sources[slug]
        parent = rf"regexp_replace({key}, '\.[^.]*$', '')"
        found = []
        for index, source in enumerate(sources):
            prefix = keys.of_source(index) if len(sources) > 1 else ""
            its_key = f"substr({parent}, {len(prefix) + 1})" if prefix else parent
            is_its = f"starts_with({parent}, '{prefix}') AND " if prefix else ""
            found.append(
                f" AND NOT ({is_its}EXISTS (SELECT 1 FROM {ITEM} AS ancestor "
                f"WHERE ancestor.made_by_id = {self._news[source].pk} AND ancestor.key = {its_key}))"
            )
            found.append(self._excluding_remade(source, its_key))
        return "".join(found)


def _must_repeat(stage_run: StageRun) -> bool:
    """Whether every item is done but the ``finish`` over all outputs is not."""
    open_phases = SliceTotals.objects.filter(stage_run=stage_run, open__gt=0).values_list("phase", flat=True)
    return set(open_phases) == {WorkSlice.Phase.FINISH}


# Each returns how many items it copied, how many rows it read, and the last of them. Two readers may have left the same
# item: it is copied once.
_ALL = f"""
    WITH chosen AS MATERIALIZED (
        SELECT key FROM {ITEM} WHERE made_by_id = %(old)s AND key > %(after)s ORDER BY key LIMIT %(size)s
    ), copied AS (
        INSERT INTO {ITEM} (made_by_id, key, payload)
        SELECT %(new)s, item.key, item.payload
          FROM {ITEM} AS item
         WHERE item.made_by_id = %(old)s AND item.key > %(after)s AND item.key <= (SELECT max(key) FROM chosen) {{but}}
            ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM copied), (SELECT count(*) FROM chosen), (SELECT max(key) FROM chosen)
"""
_IN_SLICES = f"""
    WITH next AS MATERIALIZED (
        SELECT ordinal, first_key, cursor, last_key,
               sum(size - processed - failed) OVER (ORDER BY ordinal) AS items,
               row_number() OVER (ORDER BY ordinal) AS n
          FROM (SELECT * FROM {SLICE}
                 WHERE stage_run_id = %(reader)s AND phase = {WorkSlice.Phase.WORK.value} AND finished_at IS NULL
                   AND source_id = %(old)s AND (%(is_first)s OR ordinal > %(after)s)
                 ORDER BY ordinal LIMIT %(slices)s) AS slice
    ), chosen AS MATERIALIZED (
        SELECT * FROM next WHERE n = 1 OR items <= %(size)s
    ), copied AS (
        INSERT INTO {ITEM} (made_by_id, key, payload)
        SELECT %(new)s, item.key, item.payload
          FROM chosen AS slice
         CROSS JOIN LATERAL (
                SELECT key, payload FROM {ITEM}
                 WHERE made_by_id = %(old)s AND key >= slice.first_key AND key > slice.cursor AND key <= slice.last_key
                 ORDER BY key) AS item
         WHERE true {{but}}
            ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM copied), (SELECT count(*) FROM chosen), (SELECT max(ordinal) FROM chosen)
"""
_FAILED = f"""
    WITH chosen AS MATERIALIZED (
        SELECT key FROM {ITEM_FAILURE}
         WHERE stage_run_id = %(reader)s AND key > %(after)s ORDER BY key LIMIT %(size)s
    ), copied AS (
        INSERT INTO {ITEM} (made_by_id, key, payload)
        SELECT %(new)s, item.key, item.payload
          FROM chosen
          JOIN {ITEM} AS item ON item.made_by_id = %(old)s AND item.key = substr(chosen.key, length(%(prefix)s) + 1)
         WHERE starts_with(chosen.key, %(prefix)s) {{but}}
            ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM copied), (SELECT count(*) FROM chosen), (SELECT max(key) FROM chosen)
"""
_CHOSEN = f"""
    INSERT INTO {ITEM} (made_by_id, key, payload)
    SELECT %(new)s, item.key, coalesce(%(payload)s::jsonb, item.payload)
      FROM {ITEM_FAILURE} AS failure
      JOIN {ITEM} AS item ON item.made_by_id = %(old)s AND item.key = substr(failure.key, length(%(prefix)s) + 1)
     WHERE failure.stage_run_id = %(reader)s AND failure.key = ANY(%(keys)s) AND starts_with(failure.key, %(prefix)s)
        ON CONFLICT DO NOTHING
"""
_STATEMENTS = {"all": _ALL, "slices": _IN_SLICES, "failures": _FAILED}
