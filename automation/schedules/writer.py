"""The one writer of :class:`Schedule` and :class:`ScheduleOccurrence`. Callers have opened the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from automation import conf
from automation.models import Schedule, ScheduleOccurrence
from pause_manager.actor import Actor
from pause_manager.database import batches
from pause_manager.observability import audit, metrics

Outcome = ScheduleOccurrence.Outcome

OCCURRENCES = metrics.counter(
    "slackwater_schedule_occurrences_total",
    "Occurrences of schedules, by outcome: started, skipped, paused, missed or failed.",
    ("outcome",),
)
_EVENTS = {
    "started": "occurrence_started",
    "skipped": "occurrence_skipped",
    "paused": "occurrence_paused",
    "missed": "occurrence_missed",
    "failed": "occurrence_failed",
}
_OPEN = Q(is_enabled=True, paused_at__isnull=True)


def insert(schedule: Schedule) -> None:
    """Store a new schedule."""
    schedule.save(force_insert=True)


def change(schedule: Schedule, names: Sequence[str]) -> None:
    """Store the columns ``names`` of a schedule that is locked."""
    Schedule.objects.filter(pk=schedule.pk).update(**{name: getattr(schedule, name) for name in names})


def delete(schedule: Schedule) -> None:
    """Delete a schedule with its occurrences; its runs stay."""
    ScheduleOccurrence.objects.filter(schedule=schedule).delete()
    Schedule.objects.filter(pk=schedule.pk).delete()


def pause(schedule: Schedule, *, by: str, reason: str, until: datetime | None) -> bool:
    """Pause it; False if it is paused already."""
    found = Schedule.objects.filter(pk=schedule.pk, paused_at__isnull=True)
    return bool(found.update(paused_at=Now(), paused_by=by, pause_reason=reason, paused_until=until))


def resume(schedule: Schedule, *, only_if_over: bool = False) -> bool:
    """End its pause; False if it is not paused, or (``only_if_over``) is to be paused for longer."""
    found = Schedule.objects.filter(pk=schedule.pk, paused_at__isnull=False)
    if only_if_over:
        found = found.filter(paused_until__lte=Now())
    return bool(found.update(paused_at=None, paused_by="", pause_reason="", paused_until=None))


def extend(schedule: Schedule, expires_at: datetime, counted_to: datetime) -> None:
    """Move its expiry on."""
    Schedule.objects.filter(pk=schedule.pk).update(expires_at=expires_at, expiry_counted_to=counted_to)
    schedule.expires_at, schedule.expiry_counted_to = expires_at, counted_to


def come_next(schedule: Schedule, due_at: datetime | None) -> bool:
    """Note when a due schedule comes next; False if it has been switched off or paused."""
    return bool(Schedule.objects.filter(_OPEN, pk=schedule.pk).update(next_due_at=due_at))


def record(
    schedule: Schedule,
    due_at: datetime,
    outcome: str,
    *,
    actor: Actor,
    reason: str = "",
    run_id: UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> bool:
    """Note what became of an occurrence, once: False if that was decided before, and then nothing changes."""
    _, is_new = ScheduleOccurrence.objects.get_or_create(
        schedule=schedule,
        due_at=due_at,
        defaults={"outcome": outcome, "reason": reason, "actor": actor.name, "run_id": run_id},
    )
    if is_new:
        _tell(schedule, due_at, outcome, actor=actor, reason=reason, run_id=run_id, details=details)
    return is_new


def decide(
    schedule: Schedule,
    due_at: datetime,
    outcome: str,
    *,
    actor: Actor,
    reason: str = "",
    run_id: UUID | None = None,
) -> bool:
    """Give an occurrence that was paused its outcome; False if it is not paused any more."""
    paused = ScheduleOccurrence.objects.filter(schedule=schedule, due_at=due_at, outcome=Outcome.PAUSED)
    decided = paused.update(outcome=outcome, reason=reason, actor=actor.name, run_id=run_id, decided_at=Now())
    if decided:
        _tell(schedule, due_at, outcome, actor=actor, reason=reason, run_id=run_id)
    return bool(decided)


def undo(schedule: Schedule, due_at: datetime, *, actor: Actor, reason: str = "") -> bool:
    """Forget that an occurrence, which is still to come, was skipped or paused; False if it was not."""
    decided = ScheduleOccurrence.objects.filter(
        schedule=schedule, due_at=due_at, due_at__gt=Now(), outcome__in=[Outcome.SKIPPED, Outcome.PAUSED]
    )
    undone, _ = decided.delete()
    if undone:
        audit.record(
            "occurrence_resumed",
            scope=schedule.scope,
            actor=actor,
            reason=reason,
            details={"schedule": str(schedule), "due_at": due_at.isoformat()},
        )
    return bool(undone)


def _tell(
    schedule: Schedule,
    due_at: datetime,
    outcome: str,
    *,
    actor: Actor,
    reason: str,
    run_id: UUID | None,
    details: Mapping[str, Any] | None = None,
) -> None:
    facts = {"schedule": str(schedule), "due_at": due_at.isoformat(), **(details or {})}
    if run_id is not None:
        facts["run"] = str(run_id)
    audit.record(_EVENTS[outcome], scope=schedule.scope, actor=actor, reason=reason, details=facts)
    metrics.guarded(OCCURRENCES.add)(1, outcome=outcome)


def forget() -> int:
    """Delete occurrences that were decided more than ``schedule_history_days`` ago; returns how many."""
    return batches.delete(
        ScheduleOccurrence._meta.db_table,
        "decided_at",
        "decided_at < statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8) AND outcome <> 'paused'",
        {"days": conf.settings().schedule_history_days},
    )
