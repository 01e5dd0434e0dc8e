"""What people see of credits: of a run, of an account, of a month. Read only, a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum

from automation.contrib.credits.models import RunCredits, Usage

CURRENCY_PARTS = 1_000_000


@dataclass(frozen=True)
class StageUsage:
    """Of one stage of a run: thousandths of a credit, and millionths of the currency."""

    stage: str
    items: int
    charged: int
    cost: int


@dataclass(frozen=True)
class RunUsage:
    """Of one run: thousandths of a credit."""

    used: int
    reserved: int
    limit: int | None
    stages: Sequence[StageUsage]


def of_run(run_id: UUID) -> RunUsage | None:
    """What the run has used, and set aside; ``None`` if nothing of it has a price."""
    row = RunCredits.objects.filter(pk=run_id).first()
    if row is None:
        return None
    sums = summed(Usage.objects.filter(run_id=run_id), "stage")
    stages = [StageUsage(one["stage"], one["items"], one["charged"], one["cost"]) for one in sums]
    return RunUsage(sum(one.charged for one in stages), row.reserved, row.limit, stages)


def summed(rows: QuerySet[Usage], *by: str) -> Iterable[dict[str, Any]]:
    """``items``, ``charged`` and ``cost`` of ``rows``, by the fields ``by``, in their order."""
    # Not the names of the fields: their sums would be aggregates of aggregates.
    sums = rows.order_by(*by).values(*by).annotate(n=Sum("items"), paid=Sum("charged"), spent=Sum("cost"))
    for one in sums:
        kept = {name: one[name] for name in by}
        yield {**kept, "items": one["n"], "charged": one["paid"], "cost": one["spent"]}
