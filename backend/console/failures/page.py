"""The page of failures across runs: grouped by signature, with counts by pipeline and stage, and a retry of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection
from django.db.models import Q

from automation.errors import AutomationError
from automation.gate import installed_code
from automation.models import AutomationRun, Lifecycle
from automation.models.tables import ITEM_FAILURE, STAGE
from automation.reports import payload_access
from automation.runs.retries import RETRYABLE
from backend.console import access
from backend.console.failures.signatures import signature_of
from backend.console.runs.actions import retry_items
from backend.console.runs.audience import Audience
from pause_manager.console.pages import Action, Context, Done, Page, Query, Refused, Request
from pause_manager.console.viewer import Viewer

RUNS = 60
"""The newest ended runs with failures, and as many unfinished ones, that are looked at."""
EACH = 100
"""Failures of each stage of a run that are looked at."""
SHOWN = 50
RUNS_SHOWN = 8

_FAILURES = f"""
    SELECT stage.run_id, stage.slug, stage.definition->>'title', failure.error, failure.failed_at
      FROM {STAGE} AS stage
     CROSS JOIN LATERAL (SELECT left(error, 8000) AS error, failed_at FROM {ITEM_FAILURE}
                          WHERE stage_run_id = stage.id ORDER BY key LIMIT {EACH}) AS failure
     WHERE stage.run_id = ANY(%s) AND stage.position >= 0
"""


@dataclass
class Group:
    """Failures with one signature in one stage of one pipeline."""

    signature: str
    pipeline: str
    title: str
    slug: str
    stage: str
    count: int = 0
    last: datetime | None = None
    runs: dict[UUID, int] = field(default_factory=dict)
    """How many in each run, the newest run first."""
    retry: str = ""
    """What a retry of it posts, as JSON; empty if no run can be retried."""

    @property
    def shown(self) -> list[tuple[UUID, int]]:
        return list(self.runs.items())[:RUNS_SHOWN]

    @property
    def more_runs(self) -> int:
        return max(0, len(self.runs) - RUNS_SHOWN)


def context(viewer: Viewer, asked: Query) -> Context:
    """Return the groups, the last seen first; a bounded look, however many failures there are."""
    assert isinstance(viewer, Audience)
    pipeline = asked.get("pipeline", "").replace("\0", "")
    runs = _runs(viewer, pipeline)
    groups = groups_of(runs, is_shown=viewer.may_see_payloads)
    return {
        "groups": groups[:SHOWN],
        "more": max(0, len(groups) - SHOWN),
        "looked_at": len(runs),
        "pipelines": sorted({(group.pipeline, group.title) for group in groups}, key=lambda one: one[1]),
        "pipeline": pipeline,
        "may_operate": viewer.may_operate,
    }


def _runs(audience: Audience, pipeline: str) -> list[AutomationRun]:
    """The newest runs that may have failed items: completed with some, failed, and unfinished ones."""
    visible = audience.runs().filter(pipeline=pipeline) if pipeline else audience.runs()
    with_failures = Q(lifecycle=Lifecycle.COMPLETED, failed_items__gt=0)
    found: dict[UUID, AutomationRun] = {}
    for chosen in (with_failures, Q(lifecycle=Lifecycle.FAILED), Q(finished_at__isnull=True)):
        newest = visible.filter(chosen).order_by("-created_at", "-id")[:RUNS]
        found |= {run.pk: run for run in newest}
    return sorted(found.values(), key=lambda run: run.created_at, reverse=True)


def groups_of(runs: Sequence[AutomationRun], *, is_shown: bool) -> list[Group]:
    """The groups of the failures of ``runs``, the last seen first."""
    by_id = {run.pk: run for run in runs}
    with connection.cursor() as cursor:
        cursor.execute(_FAILURES, [list(by_id)])
        rows = cursor.fetchall()
    order = {run.pk: index for index, run in enumerate(runs)}
    found: dict[tuple[str, str, str], Group] = {}
    for run_id, slug, title, error, at in sorted(rows, key=lambda row: order[row[0]]):
        signature = signature_of(error) if is_shown else payload_access.error_class(error)
        name = by_id[run_id].pipeline
        group = found.get((name, slug, signature))
        if group is None:
            of = installed_code.pipeline_title(name)
            stage = title or installed_code.title_of(name, slug)
            group = found[name, slug, signature] = Group(signature, name, of, slug, stage)
        group.count += 1
        group.last = at if group.last is None else max(group.last, at)
        group.runs[run_id] = group.runs.get(run_id, 0) + 1
    for group in found.values():
        able = [str(pk) for pk in group.runs if by_id[pk].lifecycle in RETRYABLE]
        values: dict[str, Any] = {"do": "retry", "run": able, "stage": group.slug, "signature": group.signature}
        group.retry = orjson.dumps(values).decode() if able else ""
    return sorted(found.values(), key=lambda group: (group.last is not None, group.last), reverse=True)


def _retry(request: Request) -> Done:
    """Retry the failures of a group in each of its runs: one new run for each."""
    done, problems = 0, []
    for run in list(dict.fromkeys(request.lists("run")))[: 3 * RUNS] or [""]:
        one = Request(request.user, request.actor, {**request.values, "run": run}, request.lists)
        try:
            retry_items(one)
            done += 1
        except (Refused, AutomationError) as refusal:
            problems.append(str(refusal))
    if not done and len(problems) == 1:
        raise Refused(problems[0])
    return Done(f"Started {done} run{'s' if done != 1 else ''} over the failed items.", "", tuple(problems))


PAGE = Page(
    name="failures",
    path="failures/",
    title="Failures",
    template="console/failures/content.html",
    context=context,
    may_view=access.may_view,
    icon="failures",
    order=140,
    key="x",
    viewer_of=Audience.of,
    refresh_seconds=5.0,
    styles=("console/runs.css",),
    actions={"retry": Action(_retry, access.OPERATE)},
)
