"""What a run left undone, copied to the run that retries it: a batch at a time, each as dear as what it copies.

Where it stands is kept with the new run in the transaction of each batch, so the next one goes on there, whoever makes
it and however long after. An item is copied before what was made of it, so that nothing is copied that is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import F

from automation.items import keys
from automation.items.store import ITEM
from automation.leases.claims import SLICE
from automation.models import AutomationRun, ItemFailure, Lifecycle, SliceTotals, StageRun, WorkSlice
from automation.pipeline.definition import INPUT

BATCH = 2_000
"""Items a batch copies, if no slice is larger."""
SLICES = 500
"""Slices a batch looks at."""

Sources = Mapping[str, Sequence[str]]
"""By stage, the slugs of those whose outputs are its items; ``input`` is the run's input."""


@dataclass(frozen=True)
class Step:
    """What is copied of the outputs of ``slug``: ``all``, or what ``reader`` left in its ``slices`` or ``failures``."""

    slug: str
    how: str
    reader: str = ""


class Undone:
    """What ``old`` left undone, on its way to ``new``."""

    def __init__(self, old: AutomationRun, new: AutomationRun, sources: Sources) -> None:
        self._new = new
        self._sources = sources
        self._olds = {stage_run.slug: stage_run for stage_run in old.stages.order_by("position")}
        self._news = {stage_run.slug: stage_run for stage_run in new.stages.order_by("position")}
        self._steps = self._plan()
        self._forks = any(len(self._readers(slug)) > 1 for slug in self._olds)

    def copy_batch(self) -> bool:
        """Copy the next items, in the caller's transaction; False if there is nothing more to copy.

        ``new`` is brought up to date: ``copying`` says where it stands, ``total_items`` how many were copied.
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

    def _plan(self) -> list[Step]:
        again = {slug for slug, stage_run in self._olds.items() if _is_to_do_again(stage_run)}
        steps = []
        for slug in self._olds:  # in order of position: an item's ancestors are copied before it
            if slug in again or self._comes_again(slug, again):
                continue  # made anew
            readers = self._readers(slug)
            if any(reader in again or self._olds[reader].lifecycle == Lifecycle.PENDING for reader in readers):
                steps.append(Step(slug, "all"))
                continue
            for reader in readers:
                steps += [Step(slug, "slices", reader), Step(slug, "failures", reader)]
        return steps

    def _comes_again(self, slug: str, again: set[str]) -> bool:
        """Whether ``slug`` is fed, however indirectly, by a stage that is done again."""
        return any(source in again or self._comes_again(source, again) for source in self._sources.get(slug, ()))

    def _readers(self, slug: str) -> list[str]:
        """The stages whose items are the outputs of ``slug``."""
        return [reader for reader, sources in self._sources.items() if slug in sources]

    def _prefix(self, slug: str, reader: str) -> str:
        """What ``reader`` puts before the keys of items from ``slug``."""
        sources = self._sources[reader]
        return keys.of_source(list(sources).index(slug)) if len(sources) > 1 else ""

    def _copy(self, step: Step, after: Any) -> tuple[int, Any]:
        """How many were copied, and after what the next batch begins; ``None`` if the step is done."""
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
            cursor.execute(_STATEMENTS[step.how].format(but=self._but_not_made_anew(step.slug, "item.key")), values)
            copied, looked_at, last = cursor.fetchone()
        return copied, last if looked_at else None

    def _but_not_made_anew(self, slug: str, key: str) -> str:
        """SQL that leaves out the outputs of ``slug`` that the new run makes by itself, from an ancestor that it has.

        ``key`` is an SQL expression; an ancestor's key is what is left of it without its last segment.
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
            found.append(self._but_not_made_anew(source, its_key))
        return "".join(found)


def _is_to_do_again(stage_run: StageRun) -> bool:
    """Whether every item is done but the ``finish`` over all outputs is not."""
    open_phases = SliceTotals.objects.filter(stage_run=stage_run, open__gt=0).values_list("phase", flat=True)
    return set(open_phases) == {WorkSlice.Phase.FINISH}


# Each chooses the next of what leads to the items, and answers how many items it copied, how many of those it looked
# at, and the last of them. Two readers may have left the same item undone: it is copied once.
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
        SELECT key FROM {ItemFailure._meta.db_table}
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
_STATEMENTS = {"all": _ALL, "slices": _IN_SLICES, "failures": _FAILED}
