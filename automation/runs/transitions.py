"""The table of lifecycle transitions and its only writer; also the pause times that follow a run's holds.

Every write is one UPDATE whose WHERE is the guard: no row, no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, FloatField, Func, Subquery, Sum
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now

from automation.errors import TransitionRefused
from automation.models import AutomationRun, Lifecycle, StageRun, WorkSlice
from automation.models.tables import RUN
from automation.reports import status
from automation.runs import dependency_rows, questions
from automation.signals import places_freed
from pause_manager import holds, scopes
from pause_manager.actor import SYSTEM, Actor
from pause_manager.models import Hold
from pause_manager.observability import audit


@dataclass(frozen=True)
class Transition:
    """One arrow of the state machine: ``name`` is also the event's action, ``stamp`` the time it sets."""

    name: str
    sources: tuple[Lifecycle, ...]
    target: Lifecycle
    stamp: str

    @property
    def is_final(self) -> bool:
        return self.target in (Lifecycle.COMPLETED, Lifecycle.FAILED, Lifecycle.CANCELLED)


START = Transition("start", (Lifecycle.PENDING,), Lifecycle.RUNNING, "started_at")
COMPLETE = Transition("complete", (Lifecycle.RUNNING,), Lifecycle.COMPLETED, "finished_at")
FAIL = Transition("fail", (Lifecycle.RUNNING,), Lifecycle.FAILED, "finished_at")
CANCEL = Transition("cancel", (Lifecycle.PENDING, Lifecycle.RUNNING), Lifecycle.CANCELLED, "cancelled_at")
TABLE = (START, COMPLETE, FAIL, CANCEL)


def apply(
    transition: Transition,
    run_id: UUID,
    *,
    actor: Actor,
    reason: str = "",
    details: dict[str, Any] | None = None,
) -> None:
    """Make ``transition`` and record it, or raise ``TransitionRefused`` and change nothing.

    A run holds a place of its lane from its start to its end, and its holds end with it. The caller has locked the run.
    """
    changes: dict[str, Any] = {"lifecycle": transition.target, transition.stamp: Now()}
    changes["lane_seat_at"] = Now() if transition is START else None
    if transition is START:
        changes["start_requested_at"] = Coalesce(F("start_requested_at"), Now())
    if transition.is_final:
        # A final run is not paused: its pause ends here and is counted.
        changes |= {"finished_at": Now(), "paused_seconds": _paused_until_now(), "paused_at": None}
    if transition is FAIL:
        changes["failure"] = reason
    if transition is COMPLETE:
        changes["failed_items"] = _failed_in(run_id)
    with transaction.atomic():
        was = _lifecycle_before(transition, run_id)
        moved = AutomationRun.objects.filter(pk=run_id, lifecycle__in=transition.sources).update(**changes)
        if not moved:
            raise refusal(transition.name, run_id)
        audit.record(
            transition.name,
            scope=scopes.run(run_id),
            actor=actor,
            reason=reason,
            details=details,
            before={"lifecycle": was},
            after={"lifecycle": str(transition.target)},
        )
        if transition.is_final:
            questions.close(run_id)
            _drop_holds(scopes.run(run_id))
            freed = {AutomationRun.objects.values_list("lane", flat=True).get(pk=run_id)}
            if transition is COMPLETE:
                freed |= dependency_rows.satisfy(run_id)
            announce_places(freed)


def announce_places(lanes: set[str]) -> None:
    """After the commit, give the places of ``lanes`` that are free to those who wait for them."""
    transaction.on_commit(lambda: places_freed.send(None, lanes=lanes), robust=True)


def _lifecycle_before(transition: Transition, run_id: UUID) -> str | None:
    if len(transition.sources) == 1:
        return str(transition.sources[0])
    return AutomationRun.objects.filter(pk=run_id).values_list("lifecycle", flat=True).first()


def _drop_holds(scope: str) -> None:
    """Release the run's own holds, which end with it."""
    for kind in Hold.objects.covering([scope]).values_list("kind", flat=True):
        holds.release([scope], kind=kind, actor=SYSTEM, reason="the run has ended")


def request_cancel(run_id: UUID, *, actor: Actor) -> bool:
    """Record that ``run_id`` is to be cancelled; True the first time. Raises ``TransitionRefused`` on a final run."""
    unfinished = AutomationRun.objects.unfinished().filter(pk=run_id)
    if unfinished.filter(cancel_requested_at__isnull=True).update(
        cancel_requested_at=Now(), cancel_requested_by=actor.name
    ):
        return True
    if not unfinished.exists():
        raise refusal("cancel", run_id)
    return False


def request_cancels(run_ids: Sequence[UUID], *, actor: Actor) -> list[UUID]:
    """:func:`request_cancel` for those of the locked runs to which it applies; returns these."""
    able = AutomationRun.objects.unfinished().filter(pk__in=run_ids, cancel_requested_at__isnull=True)
    found = set(able.values_list("pk", flat=True))
    able.filter(pk__in=found).update(cancel_requested_at=Now(), cancel_requested_by=actor.name)
    return [pk for pk in run_ids if pk in found]


def mark_deleted(run_id: UUID) -> bool:
    """Record that a final run is deleted; True if this call did it."""
    final = AutomationRun.objects.filter(pk=run_id, finished_at__isnull=False, deleted_at__isnull=True)
    return bool(final.update(deleted_at=Now()))


def start_stage(
    stage_run_id: int, total_items: int, paused_seconds: float, *, left_out: int = 0, delay: float = 0.0
) -> bool:
    """Mark a pending stage as running with its fixed total; True if this call did it.

    ``left_out`` of its items are beyond its limit; its work begins after a ``delay`` in seconds.
    """
    return bool(
        StageRun.objects.filter(pk=stage_run_id, lifecycle=Lifecycle.PENDING).update(
            lifecycle=Lifecycle.RUNNING,
            total_items=total_items,
            started_at=Now(),
            paused_seconds_at_start=paused_seconds,
            left_out=left_out,
            begins_at=Now() + timedelta(seconds=delay) if delay else None,
        )
    )


def complete_stage(stage_run_id: int, paused_seconds: float) -> bool:
    """Mark a running stage without open slices as completed; True if this call did it."""
    return bool(
        StageRun.objects.filter(pk=stage_run_id, lifecycle=Lifecycle.RUNNING)
        .exclude(slices__finished_at__isnull=True, slices__id__isnull=False)
        .update(lifecycle=Lifecycle.COMPLETED, finished_at=Now(), paused_seconds_at_end=paused_seconds)
    )


def update_pause_times(run_ids: Sequence[str]) -> None:
    """Make the pause times of locked runs agree with their run-scope holds, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE_PAUSE_TIMES, {"runs": list(run_ids), "scopes": [scopes.run(pk) for pk in run_ids]})


def refusal(verb: str, run_id: UUID) -> TransitionRefused:
    """Return the refusal of ``verb`` with the status the run has now."""
    run = AutomationRun.objects.with_leases().filter(pk=run_id).first()
    if run is None:
        return TransitionRefused(verb, run_id, "does not exist", "unknown")
    now = status.of(run)
    return TransitionRefused(verb, run_id, f"is {now}", now)


def _failed_in(run_id: UUID) -> Combinable:
    """Items given up in all stages of the run: final once all of them are complete."""
    of_run = WorkSlice.objects.filter(stage_run__run=run_id).order_by().values("stage_run__run")
    return Coalesce(Subquery(of_run.values(failed=Sum("failed"))), 0)


def _paused_until_now() -> Combinable:
    """Ended pauses and the current one, in seconds."""
    current = Func(
        F("paused_at"),
        template="coalesce(extract(epoch FROM statement_timestamp() - %(expressions)s), 0)",
        output_field=FloatField(),
    )
    return F("paused_seconds") + current


_UPDATE_PAUSE_TIMES = f"""
    WITH held AS (
        SELECT substr(scope, 5)::uuid AS run_id, min(created_at) FILTER (WHERE released_at IS NULL) AS since,
               max(released_at) AS ended
          FROM {Hold._meta.db_table}
         WHERE scope = ANY(%(scopes)s)
         GROUP BY scope
    )
    UPDATE {RUN} AS run
       SET paused_at = CASE WHEN held.since IS NULL THEN NULL ELSE coalesce(run.paused_at, held.since) END,
           resumed_at = CASE WHEN held.since IS NULL AND run.paused_at IS NOT NULL
                             THEN coalesce(held.ended, statement_timestamp()) ELSE run.resumed_at END,
           paused_seconds = run.paused_seconds + CASE WHEN held.since IS NULL AND run.paused_at IS NOT NULL
                             THEN extract(epoch FROM coalesce(held.ended, statement_timestamp()) - run.paused_at)
                             ELSE 0 END
      FROM unnest(%(runs)s::uuid[]) AS wanted(id) LEFT JOIN held ON held.run_id = wanted.id
     WHERE run.id = wanted.id AND run.finished_at IS NULL
"""
