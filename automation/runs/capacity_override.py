"""Start a run despite capacity: from now on it ignores capacity."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from automation import dispatch
from automation.errors import NotParked
from automation.models import AutomationRun
from automation.models.runs import lock_runs
from automation.runs import transitions
from pause_manager import holds, manager, scopes, workloads
from pause_manager.actor import Actor
from pause_manager.messaging import notifier
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.observability import audit


def resume_parked(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """:func:`start_anyway` for a run that capacity has parked. Raises ``NotParked`` for any other unfinished run."""
    return start_anyway(run_id, actor=actor, reason=reason, only_if_parked=True)


def start_anyway(run_id: UUID, *, actor: Actor, reason: str = "", only_if_parked: bool = False) -> AutomationRun:
    """Release the operator's hold of the run, if there is one, and let the run continue whatever the capacity.

    Other holds stay in force. Raises ``TransitionRefused`` if the run is final or being cancelled.
    """
    scope = scopes.run(run_id)
    with transaction.atomic():
        lock_runs([str(run_id)])
        able = AutomationRun.objects.unfinished().filter(pk=run_id, cancel_requested_at__isnull=True)
        if not able.exists():
            raise transitions.refusal("force", run_id)
        if only_if_parked and not Hold.objects.covering([scope]).filter(kind=Hold.Kind.CAPACITY).exists():
            raise NotParked(run_id)
        holds.release([scope], actor=actor, reason=reason)
        entry = PauseQueueEntry.objects.waiting().filter(ref=scope).values_list("pk", flat=True).first()
        if entry is None or not manager.force_resume(entry, actor=actor, reason=reason):
            workloads.ignore_capacity([scope])
            holds.release([scope], kind=Hold.Kind.CAPACITY, actor=actor, reason=reason)
            audit.record("forced", scope=scope, actor=actor, reason=reason)
        notifier.changed(scope)
        transaction.on_commit(lambda: dispatch.of_runs([run_id]), robust=True)
    return AutomationRun.objects.with_leases().get(pk=run_id)
