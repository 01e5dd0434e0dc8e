"""Whether the gate keeps runs: one by its reasons, many in a few queries."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from automation.gate import (
    delays,
    dependencies,
    file_sharing,
    installed_code,
    lane_order,
    loop_limit,
    resource_limits,
)
from automation.gate.explanation import explain
from automation.gate.predicate import holds_of_all_nodes, scopes_with
from automation.models import TERMINAL, AutomationRun, Lifecycle, StageRun
from pause_manager.models import Hold
from pause_manager.observability import gate_health
from pause_manager.reasons import may_proceed


def may_start(run: AutomationRun) -> bool:
    """Whether nothing keeps ``run``."""
    return may_proceed(explain(run))


def blocked(runs: Iterable[AutomationRun]) -> set[UUID]:
    """The ids of those unfinished ``runs`` that something keeps, see ``explain``; in nine queries for all at most."""
    unfinished = [run for run in runs if run.lifecycle not in TERMINAL]
    if not unfinished:
        return set()
    every_id = {run.pk for run in unfinished}
    unstarted = [run.pk for run in unfinished if run.started_at is None]
    current: dict[UUID, list[StageRun]] = {pk: [] for pk in every_id}
    waiting: set[UUID] = set()
    try:
        with gate_health.guarded_read("lane"):
            waiting = lane_order.waiting_among(every_id)
    except Exception:
        waiting = set()  # open: nobody waits for an order that cannot be read
    try:
        with gate_health.guarded_read("dependency"):
            waiting |= dependencies.waiting_among(unstarted) if unstarted else set()
        with gate_health.guarded_read("code"):
            installed_code.keys()  # as a claim asks: unknown code forbids all
            for stage_run in StageRun.objects.filter(run__in=every_id).current():
                current[stage_run.run_id].append(stage_run)
            waiting |= {
                run.pk
                for run in unfinished
                if not all(installed_code.is_here(run.pipeline, stage_run) for stage_run in current[run.pk])
            }
        with gate_health.guarded_read("node"):
            if holds_of_all_nodes():
                return every_id
        with gate_health.guarded_read("files"):
            live = file_sharing.told()
            waiting |= {run.pk for run in unfinished if file_sharing.problem(run, live) is not None}
        waiting |= _kept_at_work(unfinished)
        covering = {run.pk: scopes_with(run, current[run.pk]) for run in unfinished}
        with gate_health.guarded_read("holds"):
            every = {scope for names in covering.values() for scope in names}
            held = set(Hold.objects.covering(every).values_list("scope", flat=True))
    except Exception:
        return every_id
    return {
        run.pk
        for run in unfinished
        if run.cancel_requested_at is not None
        or run.copying is not None
        or run.pk in waiting
        or not held.isdisjoint(covering[run.pk])
    }


def _kept_at_work(runs: Iterable[AutomationRun]) -> set[UUID]:
    """Those that have started and that a resource or a delay keeps; all of these if claims cannot read that."""
    started = [run.pk for run in runs if run.lifecycle == Lifecycle.RUNNING]
    if not started:
        return set()
    try:
        with gate_health.guarded_read("overrides"):
            loop_limit.check()
        with gate_health.guarded_read("resources"):
            kept = resource_limits.waiting_among(started)
        with gate_health.guarded_read("delays"):
            return kept | delays.waiting_among(started)
    except Exception:
        return set(started)
