"""What stops a run because a person must look: a stage freezes its lane, asks, or is at the end of its tries.

The slice is given back in the same transaction, as it was last committed: a loop that has lost it asks nothing, and the
item is tried again when the hold has gone.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from automation import leases
from automation.items.leased_slice import LeasedSlice
from automation.items.units import error_text
from automation.models import StageRun
from automation.pipeline import FreezeLane, NeedsInput
from automation.runs import freezes, questions
from automation.runs.questions import Asking, Kind
from pause_manager.holds.stops import Stop
from pause_manager.observability import audit


class Exhausted(Exception):
    """The tries at the current item, or hook, are used up, and its stage has a person decide."""

    def __init__(self, error: BaseException, attempts: int, *, kind: str = Kind.ITEM) -> None:
        super().__init__(error_text(f"{type(error).__name__}: {error}"))
        self.attempts = attempts
        self.kind = kind


ASKS = (FreezeLane, NeedsInput, Exhausted)
"""What the code of a stage, or the end of its tries, stops its run with."""
CANCELLED = Stop("finished", "The run has ended, or is being cancelled.")


def carry_out(
    stage_run: StageRun, work: LeasedSlice, key: str, asked: Exception, *, worker: str, group_size: int | None = None
) -> Stop:
    """Do what ``asked``, one of ``ASKS``, wants for ``key`` (of an item, or a hook); why the loop stops.

    ``work`` is given back. With ``group_size`` its current item is set apart instead, and the loop keeps the rest.
    Raises ``LeaseLost``, having changed nothing.
    """
    is_exhausted = isinstance(asked, Exhausted)

    def give_back() -> None:
        if group_size is None:
            leases.give_back(work, afresh=is_exhausted)
            return
        if is_exhausted:
            work.crashes = work.expiries = work.overrun_attempts = 0
            work.overrun_key = ""
        leases.split_off(work, group_size)

    if isinstance(asked, FreezeLane):
        return _freeze(stage_run, key, asked, give_back)
    asking = _asking_of(asked, key)
    if not questions.ask(stage_run, asking, worker=worker, give_back=give_back):
        return CANCELLED
    return Stop("needs_input", f"It asks about {key or 'itself'}.")


def _freeze(stage_run: StageRun, key: str, asked: FreezeLane, give_back: Callable[[], None]) -> Stop:
    run = stage_run.run
    why = f"{stage_run.slug}: {error_text(asked.why)}"
    actor = questions.actor_of(stage_run)
    details = {"run": str(run.pk), "stage": stage_run.slug, "item": key}
    with transaction.atomic():
        freezes.freeze(run.lane, actor=actor, reason=why, details=details)
        audit.record("froze_lane", scope=run.scope, actor=actor, reason=why, details=details | {"lane": run.lane})
        give_back()
    return Stop("freeze", f"Its lane {run.lane} is frozen.")


def _asking_of(asked: Exception, key: str) -> Asking:
    if isinstance(asked, NeedsInput):
        return Asking(Kind.QUESTION, error_text(asked.question), key, asked.choices)
    assert isinstance(asked, Exhausted)
    return questions.exhausted(asked.kind, key, str(asked), asked.attempts)
