"""Sums of what was used, by month, site, stage or run. A constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import BigIntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from automation.contrib.credits.funds import MONTH
from automation.contrib.credits.models import Line, RunCredits, Usage
from automation.contrib.credits.models.tables import USAGE
from automation.models import Site


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


def summed(rows: QuerySet[Usage], *by: str, at_most: int | None = None) -> Iterable[dict[str, Any]]:
    """``items``, ``charged`` and ``cost`` of ``rows``, by the fields ``by``, in their order; of the first groups."""
    # Not the names of the fields: their sums would be aggregates of aggregates.
    sums = rows.order_by(*by).values(*by).annotate(n=Sum("items"), paid=Sum("charged"), spent=Sum("cost"))
    for one in sums[:at_most]:
        kept = {name: one[name] for name in by}
        yield {**kept, "items": one["n"], "charged": one["paid"], "cost": one["spent"]}


def with_amounts(rows: Any) -> Any:
    """Transfers, each with ``amount``: what it changed in the customer's credits or, for a cost, what it is."""
    lines = Line.objects.filter(transfer=OuterRef("pk"), book__in=(Line.Book.AVAILABLE, Line.Book.EXPENSE))
    sums = lines.order_by().values("transfer").annotate(sum=Sum("amount")).values("sum")
    return rows.annotate(amount=Coalesce(Subquery(sums), 0, output_field=BigIntegerField()))


MOST_ROWS = 1_000


def history(rows: QuerySet[Usage], by: str) -> list[dict[str, Any]]:
    """Sums by ``month`` (newest first), ``site``, ``stage`` or ``run``: ``[{name, items, credits}]``."""
    field = {"month": "month", "site": "site_id", "stage": "stage", "run": "run_id"}[by]
    found = list(summed(rows, field, at_most=MOST_ROWS))
    if by == "month":
        found.reverse()
    names: dict[Any, Any] = {}
    if by == "site":
        names = dict(Site.objects.filter(pk__in=[one[field] for one in found]).values_list("pk", "slug"))
    return [
        {"name": str(names.get(one[field], one[field])), "items": one["items"], "credits": one["charged"]}
        for one in found
    ]


def a_year_ago() -> date:
    """The first day of the month twelve months before this one (UTC, by the database's clock)."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ({MONTH} - interval '1 year')::date")
        found: date = cursor.fetchone()[0]
    return found


def used_by_function(site_id: int) -> dict[str, int]:
    """What a site has used this month (UTC), by function, in thousandths of a credit."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT function, sum(charged)::bigint FROM {USAGE} WHERE site_id = %s AND month = {MONTH} "
            "GROUP BY 1 ORDER BY 1",
            [site_id],
        )
        return dict(cursor.fetchall())
