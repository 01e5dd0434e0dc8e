"""Failed items of a run, grouped by signature."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from automation.models import AutomationRun, StageRun
from automation.models.work import ItemFailure
from automation.reports import payload_access
from backend.console.failures.signatures import signature_of

LOOKED_AT = 2_000
"""Failures of a run that are grouped: the first by stage and key."""
EXAMPLES = 5


@dataclass(frozen=True)
class Item:
    """One failed item of a group."""

    key: str
    label: str
    error: str
    attempts: int
    failed_at: datetime
    payload: str
    retry: str
    """What a retry of it posts, as JSON."""


@dataclass
class Group:
    """Failures of one stage with the same signature."""

    stage: str
    title: str
    signature: str
    count: int
    first: datetime
    last: datetime
    retry: str
    items: list[Item] = field(default_factory=list)


def groups_of(
    run: AutomationRun, stage_runs: Iterable[StageRun], titles: dict[str, str], *, is_shown: bool
) -> tuple[list[Group], bool]:
    """The groups, the largest first, and whether there are failures that were not looked at."""
    slugs = {stage_run.pk: stage_run.slug for stage_run in stage_runs}
    rows = list(ItemFailure.objects.filter(stage_run__in=slugs).order_by("stage_run_id", "key")[: LOOKED_AT + 1])
    found: dict[tuple[str, str], Group] = {}
    for row in rows[:LOOKED_AT]:
        slug = slugs[row.stage_run_id]
        signature = signature_of(row.error) if is_shown else payload_access.error_class(row.error)
        group = found.get((slug, signature))
        if group is None:
            title = titles.get(slug, slug)
            values = {"do": "retry_items", "run": str(run.pk), "stage": slug, "signature": signature}
            told = (slug, title, signature, 0, row.failed_at, row.failed_at, orjson.dumps(values).decode())
            group = found[slug, signature] = Group(*told)
        group.count += 1
        group.first, group.last = min(group.first, row.failed_at), max(group.last, row.failed_at)
        if len(group.items) < EXAMPLES:
            group.items.append(_item(run, slug, row, is_shown=is_shown))
    return sorted(found.values(), key=lambda group: -group.count), len(rows) > LOOKED_AT


def keys_of(stage_run: StageRun, signature: str, *, is_shown: bool) -> list[str]:
    """The keys of the failures of a stage with this signature, of those that were looked at."""
    rows = ItemFailure.objects.filter(stage_run=stage_run).order_by("key").values_list("key", "error")[:LOOKED_AT]
    signing = signature_of if is_shown else payload_access.error_class
    return [key for key, error in rows if signing(error) == signature]


def _item(run: AutomationRun, slug: str, row: ItemFailure, *, is_shown: bool) -> Item:
    label = payload_access.label_of(run.pipeline, slug, row.payload, row.key, is_shown=is_shown)
    values = {"do": "retry_items", "run": str(run.pk), "stage": slug, "key": row.key}
    error = row.error.strip() if is_shown else payload_access.error_class(row.error)
    payload = written(row.payload) if is_shown else ""
    return Item(row.key, label, error, row.attempts, row.failed_at, payload, orjson.dumps(values).decode())


def written(payload: dict[str, Any]) -> str:
    """A payload as JSON that a person can read and change."""
    return orjson.dumps(payload, option=orjson.OPT_INDENT_2).decode()
