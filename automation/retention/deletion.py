"""Delete final runs: nobody sees them from here on, and ``purge`` removes their rows and files in the background."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from automation.errors import TransitionRefused
from automation.models import AutomationRun, WorkSlice
from automation.models.runs import lock_runs
from automation.reports import status
from automation.runs import transitions
from automation.runs.lifecycle import Outcome
from pause_manager import scopes
from pause_manager.actor import Actor
from pause_manager.models import ControlEvent
from pause_manager.observability import audit

DELETED, PURGED = "deleted", "purged"
"""Events that remain of a run: that it was deleted, by whom and why, and that nothing of it is left."""


def delete(run_id: UUID, *, actor: Actor, reason: str = "", confirmation: str = "") -> bool:
    """Remove the run from every list, for good, and record an event with its facts; False if it was deleted before.

    Raises ``TransitionRefused`` if there is no such run, if it is not final, if workers are still finishing its items,
    or if a retry is still copying them.
    """
    with transaction.atomic():
        lock_runs([str(run_id)])
        run = AutomationRun.objects.select_related("site").filter(pk=run_id).first()
        if run is None:
            raise transitions.refusal("delete", run_id)
        if run.deleted_at is not None:
            return False
        _refuse_if_needed(run)
        transitions.mark_deleted(run_id)
        details = {
            "pipeline": run.pipeline,
            "site": run.site.slug,
            "lifecycle": run.lifecycle,
            "total_items": run.total_items,
            "created_at": run.created_at.isoformat(),
            "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        }
        if confirmation:
            details["confirmation"] = confirmation
        audit.record(DELETED, scope=run.scope, actor=actor, reason=reason, details=details)
    return True


def delete_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Delete each of ``run_ids`` that can be; the others are refused, each with a reason."""
    outcome = Outcome()
    for pk in run_ids:
        try:
            delete(pk, actor=actor, reason=reason)
            outcome.done.append(pk)
        except TransitionRefused as refusal:
            outcome.refused.append(refusal)
    return outcome


def was_deleted(run_id: UUID, accounts: Sequence[int] | None) -> bool:
    """Return whether a run with this id, of ``accounts`` (``None`` is any), was deleted."""
    events = ControlEvent.objects.filter(scope=scopes.run(run_id), action=DELETED)
    return (events if accounts is None else events.filter(tenant__in=accounts)).exists()


def _refuse_if_needed(run: AutomationRun) -> None:
    if run.finished_at is None:
        raise transitions.refusal("delete", run.pk)
    now = status.of(run)
    if WorkSlice.objects.leased().filter(stage_run__run=run).exists():
        raise TransitionRefused("delete", run.pk, f"is {now} but workers are still finishing its items", now)
    retry = AutomationRun.objects.filter(retry_of=run, copying__isnull=False).values_list("pk", flat=True).first()
    if retry is not None:
        raise TransitionRefused("delete", run.pk, f"is {now} but its items are being copied to run {retry}", now)
