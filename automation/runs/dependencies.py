"""Dependencies of runs as people declare and decide them: add, release. What they keep is in ``gate.dependencies``."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from automation.errors import DependencyRefused
from automation.models import AutomationRun, Lifecycle
from automation.models.lanes import lock_dependencies
from automation.models.runs import lock_runs
from automation.runs import dependency_rows, transitions
from pause_manager.actor import Actor
from pause_manager.observability import audit

MOST = 100
"""Runs that a run may wait for."""


def declare(run: AutomationRun, after: Sequence[UUID]) -> list[UUID]:
    """Have a run that is being created, which nothing can wait for yet, wait for ``after``; returns these, each once.

    Raises ``DependencyRefused`` if one does not exist, is deleted, or is of another account. The caller has taken the
    lane of ``run``.
    """
    wanted = list(dict.fromkeys(after))
    if wanted:
        lock_runs([str(pk) for pk in wanted])
        _refuse_unknown(run, wanted)
        dependency_rows.add(run.pk, wanted)
    return wanted


def add(run_id: UUID, after: Sequence[UUID], *, actor: Actor, reason: str = "") -> list[UUID]:
    """Have a pending run wait for ``after`` as well; returns those that it did not wait for before.

    Raises ``DependencyRefused`` if the run has started, if one of ``after`` does not exist for it, or if that one waits
    for the run itself, by whatever way, which the sentence names.
    """
    wanted = list(dict.fromkeys(after))
    with transaction.atomic():
        lock_dependencies()
        lock_runs([str(pk) for pk in (run_id, *wanted)])
        run = AutomationRun.objects.present().filter(pk=run_id).first()
        if run is None:
            raise transitions.refusal("add a dependency to", run_id)
        if run.lifecycle != Lifecycle.PENDING or run.cancel_requested_at is not None:
            raise DependencyRefused("add a dependency", run_id, f"it is {run.lifecycle} and does not wait to start")
        _refuse_unknown(run, wanted)
        known = set(run.dependencies.filter(after__in=wanted).values_list("after_id", flat=True))
        new = [pk for pk in wanted if pk not in known]
        for pk in new:
            if way := dependency_rows.way(run_id, pk):
                listed = " waits for ".join(str(one)[:8] for one in (*way, pk))
                raise DependencyRefused("add a dependency", run_id, f"they would wait in a circle: {listed}")
        if new:
            dependency_rows.add(run_id, new)
            audit.record(
                "dependency_added",
                scope=run.scope,
                actor=actor,
                reason=reason,
                details={"after": [str(pk) for pk in new]},
            )
    return new


def release(run_id: UUID, after: UUID, *, actor: Actor, reason: str) -> AutomationRun:
    """Let ``run_id`` start though ``after`` has not completed; nothing else of it changes.

    Raises ``DependencyRefused`` if it does not wait for that run, or without a reason.
    """
    if not reason.strip():
        raise DependencyRefused("release a dependency", run_id, "expected a reason, got none")
    with transaction.atomic():
        lock_runs([str(run_id)])
        run = AutomationRun.objects.present().filter(pk=run_id).first()
        if run is None:
            raise transitions.refusal("release a dependency of", run_id)
        if not dependency_rows.release(run_id, after, actor=actor.name, reason=reason):
            raise DependencyRefused("release a dependency", run_id, f"it does not wait for run {after}")
        audit.record("dependency_released", scope=run.scope, actor=actor, reason=reason, details={"after": str(after)})
        transitions.announce_places({run.lane})
    run.refresh_from_db()
    return run


def _refuse_unknown(run: AutomationRun, after: Sequence[UUID]) -> None:
    if len(after) > MOST:
        raise DependencyRefused("add a dependency", run.pk, f"expected at most {MOST} runs, got {len(after)}")
    if run.pk in after:
        raise DependencyRefused("add a dependency", run.pk, "it cannot wait for itself")
    of_account = AutomationRun.objects.present().filter(pk__in=after, site__account=run.site.account_id)
    known = set(of_account.values_list("pk", flat=True))
    if unknown := [str(pk) for pk in after if pk not in known]:
        raise DependencyRefused("add a dependency", run.pk, f"its account has no run {', '.join(unknown)} ")
