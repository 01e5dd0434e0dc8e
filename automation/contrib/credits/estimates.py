"""What a run is expected to cost: its items, as many as earlier runs had in each stage, at the prices in force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection
from django.db.models.functions import Now

from automation.contrib.credits import conf
from automation.contrib.credits.models import Price
from automation.contrib.credits.models.tables import USAGE
from automation.models import AutomationRun, Lifecycle
from automation.models.tables import RUN, STAGE
from automation.pipeline import definition
from automation.pipeline.definition import Definition

MEASURED, ASSUMED = "measured", "assumed"


@dataclass(frozen=True)
class StageEstimate:
    """Of one priced stage."""

    stage: str
    items: int
    passes: int
    per_pass: int
    """Thousandths of a credit that one pass, over one item or group, is expected to cost."""
    basis: str
    """``measured`` if earlier runs tell how many items it will have, else ``assumed``: as many as the input."""

    @property
    def amount(self) -> int:
        """Thousandths of a credit."""
        return self.passes * self.per_pass


@dataclass(frozen=True)
class Estimate:
    """Of a run."""

    stages: Sequence[StageEstimate]

    @property
    def amount(self) -> int:
        """Thousandths of a credit."""
        return sum(one.amount for one in self.stages)

    @property
    def needed(self) -> int:
        """What must be available at the start: the estimate with its margin, in thousandths of a credit."""
        return math.ceil(self.amount * conf.settings().margin)


def prices_of(pipeline: str) -> dict[str, Price]:
    """The prices in force now, by stage. One query."""
    newest = Price.objects.filter(pipeline=pipeline, valid_from__lte=Now()).order_by("stage", "-valid_from")
    return {price.stage: price for price in newest.distinct("stage")}


def of_run(run: AutomationRun, prices: dict[str, Price]) -> Estimate:
    """What ``run``, which has not started, is expected to cost at ``prices``."""
    stages = run.stages.filter(position__gte=0, definition__isnull=False).order_by("position")
    return of(run.pipeline, run.total_items, [(one.slug, definition.of(one)) for one in stages], prices)


def of(pipeline: str, items: int, stages: Sequence[tuple[str, Definition]], prices: dict[str, Price]) -> Estimate:
    """What a run of ``pipeline`` over ``items`` is expected to cost. Two queries at most."""
    priced = [(slug, declared) for slug, declared in stages if slug in prices and prices[slug].unit != Price.Unit.NONE]
    if not priced:
        return Estimate(())
    ratios = _ratios(pipeline)
    words = per_unit_of_words(pipeline) if any(price.unit == Price.Unit.WORDS for price in prices.values()) else {}
    found = []
    for slug, declared in priced:
        is_first = not declared.after
        expected = items if is_first else math.ceil(items * ratios.get(slug, 1.0))
        passes = math.ceil(expected / declared.group_size)
        per_pass = expected_of_pass(prices[slug], declared.group_size, words.get(slug))
        basis = MEASURED if is_first or slug in ratios else ASSUMED
        found.append(StageEstimate(slug, expected, passes, per_pass, basis))
    return Estimate(tuple(found))


def expected_of_pass(price: Price, group_size: int, measured: float | None) -> int:
    """Thousandths of a credit for one call of ``process``; ``measured`` is what a stage priced by words took so far."""
    if price.unit == Price.Unit.NONE:
        return 0
    if price.unit == Price.Unit.ITEM:
        return price.charge * group_size
    if price.unit == Price.Unit.GROUP:
        return price.charge
    if measured:
        return math.ceil(measured * group_size)
    return math.ceil(price.charge * conf.settings().assumed_words / 100)


def per_unit_of_words(pipeline: str) -> dict[str, float]:
    """Thousandths of a credit that an item has cost in each stage, in the last completed runs of ``pipeline``."""
    with connection.cursor() as cursor:
        cursor.execute(_PER_ITEM, {"pipeline": pipeline, "runs": conf.settings().measured_runs})
        return {slug: float(cost) for slug, cost in cursor.fetchall() if cost}


def _ratios(pipeline: str) -> dict[str, float]:
    """Items of each stage for an item of the input, in the last completed runs of ``pipeline``."""
    with connection.cursor() as cursor:
        cursor.execute(_RATIOS, {"pipeline": pipeline, "runs": conf.settings().measured_runs})
        return {slug: float(ratio) for slug, ratio in cursor.fetchall()}


# A retry has only the items that were left, in whatever stage: it says nothing about the next run.
_LAST = f"""
    SELECT id, total_items FROM {RUN}
     WHERE deleted_at IS NULL AND pipeline = %(pipeline)s AND lifecycle = '{Lifecycle.COMPLETED.value}'
       AND retry_of_id IS NULL AND total_items > 0
     ORDER BY created_at DESC, id DESC LIMIT %(runs)s
"""
_RATIOS = f"""
    WITH last AS MATERIALIZED ({_LAST})
    SELECT stage.slug, sum(stage.total_items)::float8 / sum(last.total_items)
      FROM last JOIN {STAGE} AS stage ON stage.run_id = last.id
     WHERE stage.position >= 0 AND stage.total_items IS NOT NULL
     GROUP BY stage.slug
"""
_PER_ITEM = f"""
    WITH last AS MATERIALIZED ({_LAST})
    SELECT used.stage, sum(used.charged)::float8 / nullif(sum(used.items), 0)
      FROM last JOIN {USAGE} AS used ON used.run_id = last.id
     GROUP BY used.stage
"""
