"""What the list of runs says beside the rows: progress, and why a run does not proceed. A constant number of queries
for all runs of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.admin.views.main import ChangeList
from django.db import connection
from django.http import HttpRequest

from automation import gate
from automation.models import AutomationRun, Lifecycle
from automation.models.tables import STAGE
from automation.reports import payload_access
from automation.reports.slice_totals import DONE
from pause_manager import scopes
from pause_manager.models import Hold


@dataclass(frozen=True)
class Facts:
    """Percent done, how many items have failed, and the one sentence that matters most."""

    percentage: int
    failed: int
    why: str


def of(runs: Sequence[AutomationRun], *, is_shown: bool) -> dict[UUID, Facts]:
    """The facts of ``runs``; texts of stages only if they are ``is_shown``."""
    shares = _shares(runs)
    held = _held(runs)
    silent = [run for run in runs if run.lifecycle == Lifecycle.PENDING and run.scope not in held]
    reasons = {pk: payload_access.without_texts(some) for pk, some in gate.explain_each(silent).items()}
    found = {}
    for run in runs:
        share, failed = shares.get(run.pk, (0.0, 0))
        why = payload_access.failure(run.failure, is_shown=is_shown)
        if run.finished_at is None:
            first = next(iter(reasons.get(run.pk, ())), None)
            why = held.get(run.scope) or (first.sentence if first is not None else "")
        done = 100 if run.lifecycle == Lifecycle.COMPLETED else int(share)
        found[run.pk] = Facts(done, failed, why)
    return found


def _held(runs: Sequence[AutomationRun]) -> dict[str, str]:
    """By scope, who holds it and why; an operator's hold before others."""
    wanted = [scopes.run(run.pk) for run in runs if run.paused_at is not None and run.finished_at is None]
    if not wanted:
        return {}
    rows = sorted(Hold.objects.active().filter(scope__in=wanted), key=lambda one: one.kind == Hold.Kind.OPERATOR)
    told = {}
    for one in rows:
        reason = f": {one.reason}" if one.reason else "."
        told[one.scope] = f"held by {one.actor.removeprefix('user:')}{reason}"
    return told


def _shares(runs: Sequence[AutomationRun]) -> dict[UUID, tuple[float, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_SHARES, [[run.pk for run in runs]])
        return {run_id: (float(share), failed) for run_id, share, failed in cursor.fetchall()}


class RunList(ChangeList):
    """The list of runs, with the facts of the rows that are shown."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        facts = of(rows, is_shown=payload_access.may_view(request.user))
        for run in rows:
            run.admin_facts = facts[run.pk]
        self.result_list = rows


_SHARES = f"""
    SELECT stage.run_id,
           100 * avg(CASE WHEN stage.total_items > 0
                          THEN least(1.0, (done.processed + done.failed)::float8 / stage.total_items)
                          WHEN stage.lifecycle = 'completed' THEN 1.0 ELSE 0.0 END),
           sum(done.failed)::bigint
      FROM {STAGE} AS stage CROSS JOIN LATERAL ({DONE}) AS done
     WHERE stage.run_id = ANY(%s) AND stage.position >= 0
     GROUP BY stage.run_id
"""
