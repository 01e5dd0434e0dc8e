"""The rows of the list: status, why and who, progress, and what may be done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from automation import gate
from automation.gate import installed_code
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.models.tables import STAGE
from automation.pipeline.definition import QUEUE
from automation.reports import payload_access, status
from automation.reports.slice_totals import DONE
from automation.runs.retries import RETRYABLE
from backend.console.runs.filters import BY_PEOPLE
from pause_manager import scopes
from pause_manager.holds import wording
from pause_manager.models import Hold
from pause_manager.reasons import ORDER, Reason

ON_HOLD = "on_hold"
"""Paused until a person acts, in a list; what waits ends by itself."""
PEOPLE_LIFT = frozenset({kind.value for kind in BY_PEOPLE} | {"fleet", "node"})
"""Codes of reasons that a person must end."""

# As ``gate.scopes_of``: a stage's queue and resources count while it runs, before the start those of the first.
_STAGES = f"""
    SELECT stage.run_id, stage.slug, stage.lifecycle, stage.total_items, done.processed, done.failed, stage.position,
           stage.definition->>'title' AS title, {QUEUE} AS queue, stage.definition->'uses' AS uses
      FROM {STAGE} AS stage CROSS JOIN LATERAL ({DONE}) AS done
     WHERE stage.run_id = ANY(%s) AND stage.position >= 0
     ORDER BY stage.run_id, stage.position
"""


@dataclass(frozen=True)
class Row:
    """One run in the list."""

    run: AutomationRun
    title: str
    status: str
    why: Reason | None
    failure: str
    stage: str
    done: float
    """Percent of the bar: processed items."""
    failed_share: float
    failed: int
    verbs: frozenset[str] = field(default_factory=frozenset)

    @property
    def percentage(self) -> float:
        return self.done + self.failed_share


def of(runs: Sequence[AutomationRun], *, may_operate: bool, is_shown: bool) -> list[Row]:
    """The rows of ``runs``, which are from ``with_leases()``: two statements, and the gate's for those that wait."""
    stages = _stages_of(runs)
    holds = _holds_of(runs, stages)
    reasons = _reasons(runs, holds)
    return [
        _row(run, stages.get(run.pk, []), holds.get(run.pk, []), reasons.get(run.pk), may_operate, is_shown=is_shown)
        for run in runs
    ]


def _stages_of(runs: Sequence[AutomationRun]) -> dict[Any, list[dict[str, Any]]]:
    with connection.cursor() as cursor:
        cursor.execute(_STAGES, [[run.pk for run in runs]])
        names = [column.name for column in cursor.description or ()]
        found: dict[Any, list[dict[str, Any]]] = {}
        for row in cursor.fetchall():
            found.setdefault(row[0], []).append(dict(zip(names, row, strict=True)))
    return found


def _holds_of(runs: Sequence[AutomationRun], stages: dict[Any, list[dict[str, Any]]]) -> dict[Any, list[Hold]]:
    """The holds that cover each unfinished run, in the order in which reasons are told."""
    covering = {run.pk: _scopes(run, stages.get(run.pk, [])) for run in runs if run.finished_at is None}
    wanted = {scope for scopes_of_run in covering.values() for scope in scopes_of_run}
    holds = list(Hold.objects.covering(sorted(wanted)).order_by("created_at")) if wanted else []
    holds.sort(key=lambda hold: ORDER.index(wording.code_of(hold)))
    return {pk: [hold for hold in holds if hold.scope in mine] for pk, mine in covering.items()}


def _scopes(run: AutomationRun, stages: Iterable[dict[str, Any]]) -> set[str]:
    current = [
        stage
        for stage in stages
        if stage["lifecycle"] == Lifecycle.RUNNING or (run.lifecycle == Lifecycle.PENDING and stage["position"] == 0)
    ]
    queues = {f"queue:{stage['queue']}" for stage in current}
    used = {scopes.resource(name) for stage in current for name in stage["uses"] or ()}
    return {"fleet", f"pipeline:{run.pipeline}", f"lane:{run.lane}", run.scope, *queues, *used}


def _row(
    run: AutomationRun,
    stages: list[dict[str, Any]],
    holds: list[Hold],
    reason: Reason | None,
    may_operate: bool,
    *,
    is_shown: bool,
) -> Row:
    processed, failed = _shares(run, stages)
    current = [
        stage["title"] or installed_code.title_of(run.pipeline, stage["slug"])
        for stage in stages
        if stage["lifecycle"] == Lifecycle.RUNNING
    ]
    return Row(
        run,
        installed_code.pipeline_title(run.pipeline),
        _status(run, reason),
        reason,
        payload_access.failure(run.failure, is_shown=is_shown),
        ", ".join(current) if run.finished_at is None else "",
        processed,
        failed,
        sum(stage["failed"] for stage in stages),
        _verbs(run, holds, any(stage["failed"] for stage in stages)) if may_operate else frozenset(),
    )


def _reasons(runs: Sequence[AutomationRun], holds: dict[Any, list[Hold]]) -> dict[Any, Reason]:
    """The first reason why nothing of each is worked on; the gate is asked, once, where no hold says it."""
    unfinished = [run for run in runs if run.finished_at is None and run.cancel_requested_at is None]
    found = {run.pk: wording.reason_of(holds[run.pk][0]) for run in unfinished if holds.get(run.pk)}
    silent = [run for run in unfinished if run.pk not in found and not getattr(run, "is_leased", False)]
    for pk, reasons in gate.explain_each(silent).items():
        told = [one for one in payload_access.without_texts(reasons) if one.code not in ("finished", "cancel")]
        if told:
            found[pk] = told[0]
    return found


def _status(run: AutomationRun, reason: Reason | None) -> str:
    derived = status.of(run, has_reasons=reason is not None and reason.keeps)
    if reason is None or not reason.keeps or derived in (*status.FINAL, status.PAUSING, status.CANCELLING):
        return derived
    if getattr(run, "is_leased", False):
        return status.PAUSING
    return ON_HOLD if reason.code in PEOPLE_LIFT else status.WAITING


def _shares(run: AutomationRun, stages: list[dict[str, Any]]) -> tuple[float, float]:
    """Percent of the bar that is processed, and that has failed: every stage has the same weight."""
    processed = failed = 0.0
    for stage in stages:
        if stage["total_items"]:
            processed += float(stage["processed"]) / stage["total_items"]
            failed += float(stage["failed"]) / stage["total_items"]
        else:
            processed += float(stage["lifecycle"] == Lifecycle.COMPLETED)
    weight = 100 / max(1, len(stages))
    if run.lifecycle == Lifecycle.COMPLETED:
        return 100 - failed * weight, failed * weight
    return processed * weight, failed * weight


def _verbs(run: AutomationRun, holds: list[Hold], has_failures: bool) -> frozenset[str]:
    """What can be done with the run now, as far as the row knows."""
    if run.lifecycle in TERMINAL:
        is_retryable = run.lifecycle in RETRYABLE and (has_failures or run.lifecycle == Lifecycle.FAILED)
        return frozenset({"retry"} if is_retryable else ())
    if run.cancel_requested_at is not None:
        return frozenset()
    is_held = any(hold.kind == Hold.Kind.OPERATOR and hold.scope == run.scope for hold in holds)
    return frozenset({"resume" if is_held else "pause", "cancel"})
