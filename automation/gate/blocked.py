"""Whether the gate keeps runs: one by its reasons, many in a few queries."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from automation.gate import (
    dependencies,
    file_sharing,
    installed_code,
    lane_order,
)
from automation.gate.explanation import explain
from automation.gate.predicate import holds_of_all_nodes, scopes_with
from automation.models import AutomationRun, Lifecycle, StageRun
from pause_manager.models import Hold
from pause_manager.observability import gate_health
from pause_manager.reasons import may_proceed


def may_start(run: AutomationRun) -> bool:
    """Whether nothing keeps ``run``."""
    return may_proceed(explain(run))


def blocked(runs: Iterable[AutomationRun]) -> set[UUID]:
    """The ids of those pending ``runs`` that ``explain`` has a reason for, in seven queries for all at most."""
    pending = [run for run in runs if run.lifecycle == Lifecycle.PENDING]
    current: dict[UUID, list[StageRun]] = {run.pk: [] for run in pending}
    held: set[str] = set()
    apart: set[UUID] = set()
    waiting: set[UUID] = set()
    try:
        with gate_health.guarded_read("lane"):
            waiting = lane_order.waiting_among(run.pk for run in pending) if pending else set()
    except Exception:
        waiting = set()  # open: nobody waits for an order that cannot be read
    try:
        with gate_health.guarded_read("dependency"):
            waiting |= dependencies.waiting_among(run.pk for run in pending) if pending else set()
        with gate_health.guarded_read("code"):
            for stage_run in StageRun.objects.filter(run__in=pending).current() if pending else ():
                current[stage_run.run_id].append(stage_run)
        covering = {run.pk: scopes_with(run, current[run.pk]) for run in pending}
        every = {scope for names in covering.values() for scope in names}
        with gate_health.guarded_read("node"):
            if pending and holds_of_all_nodes():
                return {run.pk for run in pending}
        with gate_health.guarded_read("files"):
            live = file_sharing.told() if pending else []
            apart = {run.pk for run in pending if file_sharing.problem(run, live) is not None}
        with gate_health.guarded_read("holds"):
            if every:
                held = set(Hold.objects.covering(every).values_list("scope", flat=True))
    except Exception:
        return {run.pk for run in pending}
    return {
        run.pk
        for run in pending
        if run.cancel_requested_at is not None
        or run.copying is not None
        or run.pk in apart
        or run.pk in waiting
        or not held.isdisjoint(covering[run.pk])
        or not all(installed_code.is_here(run.pipeline, stage_run) for stage_run in current[run.pk])
    }
