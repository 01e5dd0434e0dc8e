"""What is shown of a run before it starts: the items that were read, and how long and how dear it would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from automation.inputs import Report
from automation.models import Site
from automation.reports import estimates

COLUMNS = 8
LONGEST_CELL = 60


@dataclass(frozen=True)
class Preview:
    """A preview of an input before a run is started from it."""

    report: Report
    digest: str
    """Digest of the previewed input: the run starts only from this."""

    @property
    def columns(self) -> list[str]:
        names: dict[str, None] = {}
        for item in self.report.first_items:
            names |= dict.fromkeys(item)
        return list(names)[:COLUMNS]

    @property
    def more_columns(self) -> int:
        return max(0, max(map(len, self.report.first_items)) - COLUMNS)

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        return [[_shortened(item.get(column, "")) for column in self.columns] for item in self.report.first_items]

    @property
    def more_items(self) -> int:
        return self.report.count - len(self.report.first_items)


def estimate_of(site: Site | None, pipeline: str, items: int | None) -> dict[str, Any] | None:
    """How long a run over ``items`` would take by earlier ones, and its credits where stages have prices."""
    if site is None:
        return None
    found = estimates.of_items(site, pipeline, items)
    known = found.get("credits") or found["seconds"] is not None or found["seconds_per_item"] is not None
    return found if known else None


def _shortened(cell: Any) -> str:
    text = str(cell)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
