"""The verbs that every entry point calls: start, pause, resume, cancel. Ids in, one outcome out.

Every verb is bounded database work; none waits for a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from automation.errors import TransitionRefused
from automation.gate import idle_reasons
from automation.models import AutomationRun, Lifecycle, WorkSlice
from automation.models.lanes import lock_lane
from automation.models.runs import lock_runs
from automation.reports import in_flight, status
from automation.runs import lanes, start_conditions, transitions
from pause_manager import holds, scopes
from pause_manager.actor import Actor
from pause_manager.holds import milestones
from pause_manager.messaging import notifier
from pause_manager.models import Hold
from pause_manager.observability import audit
from pause_manager.scopes import RUNS

logger = logging.getLogger("automation.runs.lifecycle")

ENDED_AT_ONCE = 50
"""Of many runs that are cancelled together, those that end within the call: each takes some twenty statements."""


@dataclass(frozen=True)
class Outcome:
    """The result of a verb over several runs: those it changed, and a refusal for each of the others."""

    done: list[UUID] = field(default_factory=list)
    refused: list[TransitionRefused] = field(default_factory=list)
    unchanged: list[UUID] = field(default_factory=list)
    """Those of ``done`` that were so already."""


def start_run(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Start a pending run, or record that it starts when the gate opens.

    Raises ``TransitionRefused``, or ``StartRefused`` if a condition of an app is not met.
    """
    with transaction.atomic():
        lane = AutomationRun.objects.filter(pk=run_id).values_list("lane", flat=True).first()
        if lane is not None:
            lock_lane(lane)  # before the row of the run, as all who give places do
        asked = AutomationRun.objects.filter(pk=run_id, lifecycle=Lifecycle.PENDING, cancel_requested_at__isnull=True)
        if not asked.update(start_requested_at=Now()):
            raise transitions.refusal("start", run_id)
        start_conditions.check(AutomationRun.objects.get(pk=run_id))
        # If the gate is shut, the start itself comes later, and by the system.
        audit.record("start_requested", scope=scopes.run(run_id), actor=actor, reason=reason)
    return lanes.begin_if_open(AutomationRun.objects.get(pk=run_id), actor=actor, reason=reason)


def pause(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Hold the run: workers start no further item, running items finish. A second pause changes nothing.

    Raises ``TransitionRefused`` if the run is final or being cancelled.
    """
    outcome = pause_runs([run_id], actor=actor, reason=reason)
    if outcome.refused:
        raise outcome.refused[0]
    return AutomationRun.objects.with_leases().get(pk=run_id)


def pause_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Hold every run of ``run_ids`` that can be, in one transaction; the others are refused, each with a reason."""
    with transaction.atomic():
        lock_runs([str(pk) for pk in run_ids])
        able = AutomationRun.objects.unfinished().filter(pk__in=run_ids, cancel_requested_at__isnull=True)
        ids = list(able.values_list("pk", flat=True))
        details = in_flight.of_runs(ids)
        placed = set(holds.place([scopes.run(pk) for pk in ids], actor=actor, reason=reason, details=details))
    accepted = set(ids)
    refused = [transitions.refusal("pause", pk) for pk in run_ids if pk not in accepted]
    return Outcome(ids, refused, [pk for pk in ids if scopes.run(pk) not in placed])


def resume(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Release the operator's hold, and that of a condition which is met now; the run resumes unless something else
    keeps it.

    Raises ``TransitionRefused`` if there is no such hold.
    """
    outcome = resume_runs([run_id], actor=actor, reason=reason)
    if outcome.refused:
        raise outcome.refused[0]
    return AutomationRun.objects.with_leases().get(pk=run_id)


def resume_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Release the holds of every run of ``run_ids`` that ``resume`` would; the others are refused."""
    released = holds.release([scopes.run(pk) for pk in run_ids], actor=actor, reason=reason)
    met, unmet = start_conditions.release(run_ids, actor=actor, reason=reason)
    done = {UUID(pk) for pk in scopes.runs_in(released)} | met
    refused = [_unmet(pk, unmet[pk]) if pk in unmet else _not_resumed(pk) for pk in run_ids if pk not in done]
    return Outcome([pk for pk in run_ids if pk in done], refused)


def _unmet(run_id: UUID, why: str) -> TransitionRefused:
    return TransitionRefused("resume", run_id, why, transitions.refusal("resume", run_id).status)


def _not_resumed(run_id: UUID) -> TransitionRefused:
    """The refusal of a resume; it names a hold that is not an operator's, since that looks like a pause, too."""
    refused = transitions.refusal("resume", run_id)
    kinds = Hold.objects.covering([scopes.run(run_id)]).values_list("kind", flat=True)
    if kinds and refused.status in (status.PAUSED, status.PAUSING):
        fact = f"is kept by a {' and a '.join(sorted(kinds))} hold, not by an operator's"
        return TransitionRefused("resume", run_id, fact, refused.status)
    return refused


def cancel(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """End the run for good: at once if no worker holds a slice of it, else when the last slice is released.

    In a stage marked irreversible the item in progress ends first; the event names such stages (``deferred_by``).

    A repeated cancel changes nothing. Raises ``TransitionRefused`` if the run is completed or failed.
    """
    with transaction.atomic():
        lock_runs([str(run_id)])
        if AutomationRun.objects.filter(pk=run_id, lifecycle=Lifecycle.CANCELLED).exists():
            return AutomationRun.objects.with_leases().get(pk=run_id)
        if transitions.request_cancel(run_id, actor=actor):
            scope = scopes.run(run_id)
            details = in_flight.of_runs([run_id]).get(scope)
            if deferring := idle_reasons.irreversible_at_work(run_id):
                details = (details or {}) | {"deferred_by": deferring}
            audit.record(
                "cancel_requested",
                scope=scope,
                actor=actor,
                reason=reason,
                details=details,
                before={"cancel_requested": False},
                after={"cancel_requested": True},
            )
            notifier.changed(scope)
            _end_if_idle(run_id, actor=actor, reason=reason)
    return AutomationRun.objects.with_leases().get(pk=run_id)


def cancel_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Cancel each of ``run_ids``; final runs are refused."""
    outcome = Outcome()
    for pk in run_ids:
        try:
            cancel(pk, actor=actor, reason=reason)
            outcome.done.append(pk)
        except TransitionRefused as refusal:
            outcome.refused.append(refusal)
    return outcome


def cancel_many(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """:func:`cancel` for very many runs: all are asked to end in one transaction, of which few statements are per run.

    The first ``ENDED_AT_ONCE`` that nobody works on end with it, the others by the reconciler.
    """
    with transaction.atomic():
        lock_runs([str(pk) for pk in run_ids])
        asked = transitions.request_cancels(run_ids, actor=actor)
        details = in_flight.of_runs(asked)
        for pk, slugs in idle_reasons.irreversible_of(asked).items():
            details.setdefault(scopes.run(pk), {})["deferred_by"] = slugs
        named = [scopes.run(pk) for pk in asked]
        audit.record_each(
            "cancel_requested",
            [(scope, details.get(scope, {})) for scope in named],
            actor=actor,
            reason=reason,
            changes={scope: ({"cancel_requested": False}, {"cancel_requested": True}) for scope in named},
        )
        if named:
            notifier.changed(*named)
        for pk in asked[:ENDED_AT_ONCE]:
            _end_if_idle(pk, actor=actor, reason=reason)
        is_cancelled = Q(cancel_requested_at__isnull=False, finished_at__isnull=True) | Q(lifecycle=Lifecycle.CANCELLED)
        accepted = set(AutomationRun.objects.filter(is_cancelled, pk__in=run_ids).values_list("pk", flat=True))
    refused = [transitions.refusal("cancel", pk) for pk in run_ids if pk not in accepted]
    return Outcome([pk for pk in run_ids if pk in accepted], refused)


def finish_cancels(run_ids: Sequence[UUID] | None = None) -> int:
    """Cancel the runs with a requested cancel and no leased slice; returns how many."""
    asked = AutomationRun.objects.unfinished().filter(cancel_requested_at__isnull=False)
    if run_ids is not None:
        asked = asked.filter(pk__in=run_ids)
    ended = 0
    for pk, name in list(asked.values_list("pk", "cancel_requested_by")):
        with transaction.atomic():
            lock_runs([str(pk)])
            ended += _end_if_idle(pk, actor=Actor(name, "worker"), reason="the last worker has released its slice")
    return ended


def note_drained_runs(run_ids: Sequence[UUID] | None = None) -> int:
    """Record which held runs have drained: no slice of theirs is leased any more. Returns for how many holds.

    While a run is held none of its slices is leased again, so a drained run stays drained.
    """
    holds_on_runs = Hold.objects.active().filter(drained_at__isnull=True, scope__startswith=RUNS)
    if run_ids is not None:
        holds_on_runs = holds_on_runs.filter(scope__in=[scopes.run(pk) for pk in run_ids])
    at_rest = idle_runs(scopes.runs_in(holds_on_runs.values_list("scope", flat=True)))
    return milestones.note_drained(at_rest)


def idle_runs(run_ids: Sequence[str]) -> list[str]:
    """The scopes of those of the runs of which nothing is leased."""
    if not run_ids:
        return []
    leased = WorkSlice.objects.leased().filter(stage_run__run__in=[UUID(pk) for pk in run_ids])
    at_work = {str(pk) for pk in leased.values_list("stage_run__run", flat=True)}
    return [scopes.run(pk) for pk in run_ids if pk not in at_work]


def _end_if_idle(run_id: UUID, *, actor: Actor, reason: str) -> bool:
    if WorkSlice.objects.leased().filter(stage_run__run=run_id).exists():
        return False
    if not AutomationRun.objects.unfinished().filter(pk=run_id).exists():
        return False
    transitions.apply(transitions.CANCEL, run_id, actor=actor, reason=reason)
    return True
