"""How many runs each filter has: exact up to a limit, beyond it the planner's estimate, which is marked so."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from automation.models.runs import RunQuerySet
from backend.console.runs import filters
from backend.console.runs.audience import Audience
from backend.console.runs.filters import Wanted
from backend.console.runs.held import Held

COUNTED = 1_000
"""More are estimated: nothing counts a million rows for the heading of a list."""


@dataclass(frozen=True)
class Count:
    """A number of runs; with ``is_about``, an estimate."""

    number: int
    is_about: bool = False

    def __str__(self) -> str:
        if not self.is_about:
            return f"{self.number:,}"
        digits = len(str(self.number))
        return f"about {round(self.number, 2 - digits):,}"


def of(runs: RunQuerySet) -> Count:
    """Count ``runs`` by looking at no more than ``COUNTED`` of them."""
    rows = runs.order_by()
    exact = rows.values("pk")[: COUNTED + 1].count()
    return Count(exact) if exact <= COUNTED else Count(max(_estimated(rows), exact), is_about=True)


def by_status(wanted: Wanted, audience: Audience, held: Held) -> dict[str, Count]:
    """The count of every status, by the other filters."""
    runs = audience.runs()
    found: dict[str, Count] = {}
    for status in filters.FILTERS:
        if not wanted.allows(status):
            found[status] = Count(0)
        elif status == "active" and (wanted.lane or wanted.cause):
            found[status] = found[""]  # which has only such
        else:
            found[status] = of(filters.narrowed(runs, wanted, audience, held, status=status))
    return found


def _estimated(rows: RunQuerySet) -> int:
    """The rows that the planner expects."""
    return int(orjson.loads(rows.values("pk").explain(format="json"))[0]["Plan"]["Plan Rows"])
