"""Cut the items of a stage into slices: contiguous ranges of keys, each about half a minute of work."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection
from django.db.models import Sum

from automation import conf
from automation.models import Lifecycle, StageRun, WorkSlice
from automation.models.tables import ITEM
from automation.pipeline.definition import Definition

UNKNOWN_RATE_SLICES = 64
LARGEST = 10_000
LARGEST_AT_UNKNOWN_RATE = 5_000
LOOKS_BACK = 50


@dataclass(frozen=True)
class Range:
    """Items of ``source_id`` from ``first_key`` to ``last_key``, ``size`` of them."""

    source_id: int
    first_key: str
    last_key: str
    size: int


def cut(stage_run: StageRun, stage: Definition, sources: list[StageRun]) -> tuple[list[Range], int]:
    """The ranges of a stage whose sources are complete, and how many items are beyond its ``max_items``.

    Reads immutable rows only, so it needs no lock.
    """
    ids = [source.pk for source in sources]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {ITEM} WHERE made_by_id = ANY(%s)", [ids])
        (there,) = cursor.fetchone()
        total = there if stage.max_items is None else min(there, stage.max_items)
        size = slice_size(stage, total, seconds_per_item(stage_run))
        ranges: list[Range] = []
        for pk in ids:
            left = total - sum(found.size for found in ranges)
            cursor.execute(_CUT, {"source": pk, "size": size, "most": left})
            ranges += [Range(pk, *row) for row in cursor.fetchall()]
    return ranges, there - total


def slice_size(stage: Definition, total: int, seconds_per_item: float | None) -> int:
    """Items a slice: as declared, else ``slice_seconds`` of work at the known rate; a multiple of the group size."""
    if stage.slice_size is not None:
        wanted = stage.slice_size
    elif seconds_per_item:
        wanted = min(int(conf.settings().slice_seconds / seconds_per_item), LARGEST)
    else:
        wanted = min(total // UNKNOWN_RATE_SLICES, LARGEST_AT_UNKNOWN_RATE)
    groups = max(1, wanted // stage.group_size)
    return groups * stage.group_size


def seconds_per_item(stage_run: StageRun) -> float | None:
    """Worker seconds an item took in the last completed run of the same stage with the same parameters, or ``None``.

    Only the last ``LOOKS_BACK`` of the stage's name are looked at.
    """
    newest = StageRun.objects.filter(
        slug=stage_run.slug, finished_at__isnull=False, lifecycle=Lifecycle.COMPLETED, total_items__gt=0
    ).order_by("-finished_at")[:LOOKS_BACK]
    alike = StageRun.objects.filter(
        pk__in=newest.values("pk"), run__pipeline=stage_run.run.pipeline, run__params=stage_run.run.params
    )
    earlier = alike.order_by("-finished_at").first()
    if earlier is None or not earlier.total_items:
        return None
    work = earlier.slices.filter(phase=WorkSlice.Phase.WORK)
    seconds: float = work.aggregate(seconds=Sum("busy_seconds"))["seconds"] or 0.0
    return seconds / earlier.total_items


def slices_of(stage_run: StageRun, stage: Definition, ranges: list[Range]) -> list[WorkSlice]:
    """The rows to insert: the ranges, and one slice for each hook that the stage has. No items, no hooks."""
    phase = WorkSlice.Phase
    slices = [
        WorkSlice(
            stage_run=stage_run,
            phase=phase.WORK,
            ordinal=ordinal,
            source_id=found.source_id,
            first_key=found.first_key,
            last_key=found.last_key,
            size=found.size,
        )
        for ordinal, found in enumerate(ranges)
    ]
    hooks = [one for one in (phase.PREPARE, phase.FINISH) if one.label in stage.hooks]
    return [*slices, *(WorkSlice(stage_run=stage_run, phase=hook, ordinal=0) for hook in hooks if ranges)]


_CUT = f"""
    SELECT min(key), max(key), count(*)
      FROM (SELECT key, (row_number() OVER (ORDER BY key) - 1) / %(size)s AS part
              FROM {ITEM} WHERE made_by_id = %(source)s ORDER BY key LIMIT %(most)s) AS numbered
     GROUP BY part ORDER BY part
"""
