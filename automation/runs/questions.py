"""What runs ask people: the only writer of :class:`RunQuestion`.

While a question of a run is open, a ``needs_input`` hold keeps the run; both are written under the lock on the run. So
several loops may ask at once, and the hold goes with the last answer, see ``answering``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from automation.models import AutomationRun, Lifecycle, RunQuestion, StageRun
from automation.models.runs import lock_runs
from pause_manager import holds, scopes
from pause_manager.actor import Actor
from pause_manager.messaging import notifier
from pause_manager.models import Hold
from pause_manager.observability import audit

Kind = RunQuestion.Kind
AppliesTo = RunQuestion.AppliesTo

RETRY, SKIP, FAIL = "retry", "skip", "fail"
CHOICES = {
    Kind.ITEM: (RETRY, SKIP, FAIL),
    Kind.HOOK: (RETRY, FAIL),
    Kind.LOOPS: (RETRY, FAIL),
    Kind.FAILURES: (SKIP, FAIL),
}
"""By kind, the answers that are allowed; a question of a stage brings its own."""
LONGEST_PATTERN = 300
_VARYING = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d+")


@dataclass(frozen=True)
class Asking:
    """One question. ``error`` is that of the last of ``attempts``, if tries are used up."""

    kind: str
    question: str
    item_key: str = ""
    choices: Sequence[str] = ()
    error: str = ""
    attempts: int = 0


def pattern_of(error: str) -> str:
    """What errors of one sort have in common: class and message without numbers, ids and quoted parts."""
    return " ".join(_VARYING.sub("…", error).split())[:LONGEST_PATTERN]


def exhausted(kind: str, key: str, error: str, attempts: int) -> Asking:
    """What is asked about an item, or hook, whose tries are used up."""
    tries = "once" if attempts == 1 else f"{attempts} times"
    what = f"Item {key}" if kind == Kind.ITEM else key.capitalize()
    return Asking(kind, f"{what} has failed {tries}.", key, error=error, attempts=attempts)


def actor_of(stage_run: StageRun) -> Actor:
    """The run that asks, or freezes its lane, as an actor."""
    return Actor(stage_run.run.scope, "worker")


def ask(stage_run: StageRun, asking: Asking, *, worker: str = "", give_back: Callable[[], None] = lambda: None) -> bool:
    """Hold the run with the question; False if it has ended or is being cancelled, and then asks nothing.

    ``give_back`` is called in the same transaction, and gives back the slice that the question is about: what it raises
    undoes all. The same question that is open already stays as old as it is.
    """
    run = stage_run.run
    with transaction.atomic():
        lock_runs([str(run.pk)])
        going_on = AutomationRun.objects.filter(
            pk=run.pk, lifecycle=Lifecycle.RUNNING, cancel_requested_at__isnull=True
        ).exists()
        if going_on:
            _store(stage_run, asking, worker)
            _hold(stage_run, asking)
            notifier.changed(run.scope)
        give_back()
    return going_on


def _store(stage_run: StageRun, asking: Asking, worker: str) -> None:
    facts = {
        "question": asking.question,
        "choices": list(asking.choices or CHOICES.get(Kind(asking.kind), ())),
        "error": asking.error,
        "error_pattern": pattern_of(asking.error),
        "attempts": asking.attempts,
        "asked_by": worker,
    }
    same = RunQuestion.objects.open().filter(stage_run=stage_run, kind=asking.kind, item_key=asking.item_key)
    if not same.update(**facts):
        RunQuestion.objects.create(
            run_id=stage_run.run_id, stage_run=stage_run, kind=asking.kind, item_key=asking.item_key, **facts
        )


def _hold(stage_run: StageRun, asking: Asking) -> None:
    scope, actor = stage_run.run.scope, actor_of(stage_run)
    about = f" about item {asking.item_key}" if asking.item_key and asking.kind in (Kind.QUESTION, Kind.ITEM) else ""
    what = {
        Kind.QUESTION: f"asks a question{about}",
        Kind.ITEM: f"asks what becomes of item {asking.item_key}, which has failed",
        Kind.HOOK: f"asks what to do: {asking.item_key} has failed",
        Kind.LOOPS: "asks what to do: its loops fail",
        Kind.FAILURES: "asks what to do: too many of its items have failed",
    }[Kind(asking.kind)]
    # What the stage says, and what its error quotes, is in the row of the question, for those who may read it.
    reason = f"{stage_run.slug} {what}"
    details = {"stage": stage_run.slug, "item": asking.item_key, "about": asking.kind}
    audit.record("asked", scope=scope, actor=actor, reason=reason, details=details)
    holds.place([scope], kind=Hold.Kind.NEEDS_INPUT, mode=Hold.Mode.QUIESCE, actor=actor, reason=reason)


def is_skipped(stage_run: StageRun, error: str) -> bool:
    """Whether a person has said that items of the stage which fail with such an ``error`` are to be skipped."""
    standing = Q(applies_to=AppliesTo.ALL) | Q(applies_to=AppliesTo.SAME_ERROR, error_pattern=pattern_of(error))
    skips = RunQuestion.objects.filter(stage_run=stage_run, kind=Kind.ITEM, answer=SKIP, answered_at__isnull=False)
    return skips.filter(standing).exists()


def has_no_limit(stage_run: StageRun) -> bool:
    """Whether a person has said that the stage continues however many of its items fail."""
    skips = RunQuestion.objects.filter(stage_run=stage_run, kind=Kind.FAILURES, item_key="", answer=SKIP)
    return skips.exists()


def record_answer(question_ids: Sequence[int], answer: str, *, applies_to: str, actor: Actor) -> int:
    """Write the answer to those that are still open; returns to how many. The caller has locked the run."""
    return (
        RunQuestion.objects.open()
        .filter(pk__in=question_ids)
        .update(answer=answer, applies_to=applies_to, answered_at=Now(), answered_by=actor.name)
    )


def close(run_id: UUID) -> int:
    """Close what the run still asks: it has ended. Returns how many questions that were."""
    return RunQuestion.objects.open().filter(run=run_id).update(closed_at=Now())


def release_if_answered(run_id: UUID, *, actor: Actor, reason: str) -> bool:
    """Release the hold of a run that asks nothing more; its other holds stay. The caller has locked the run."""
    if RunQuestion.objects.open().filter(run=run_id).exists():
        return False
    return bool(holds.release([scopes.run(run_id)], kind=Hold.Kind.NEEDS_INPUT, actor=actor, reason=reason))
