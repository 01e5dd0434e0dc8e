"""What an app demands before a run starts: register a :class:`StartCondition` in ``AppConfig.ready``.

The engine knows the demand by its kind of hold only. A run that does not meet one is refused while somebody asks for
its start; later, when its turn comes, it is held instead, and a resume asks the condition again.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from automation.models import AutomationRun
from pause_manager import holds, scopes
from pause_manager.actor import SYSTEM, Actor
from pause_manager.models import Hold


class StartCondition:
    """One demand. Use a constant number of queries in each method."""

    kind: Hold.Kind
    """Of the hold on a run that does not meet it. No other app places this kind on runs."""

    def check(self, run: AutomationRun) -> None:
        """Raise ``StartRefused`` if ``run``, whose start is asked for, does not meet it; change nothing."""

    def take(self, run: AutomationRun) -> str:
        """Take what the run needs, in the transaction that starts it; else change nothing and return why not.

        The lane and the run are locked.
        """
        return ""

    def unmet(self, run_id: UUID) -> str:
        """Return why the hold on the run may not be released now; empty if it may."""
        return ""


_registered: list[StartCondition] = []


def register(condition: StartCondition) -> StartCondition:
    """Add ``condition`` to those that every start must meet."""
    _registered.append(condition)
    return condition


def check(run: AutomationRun) -> None:
    """Raise ``StartRefused`` for the first condition that ``run`` does not meet."""
    for condition in _registered:
        condition.check(run)


def meet(run: AutomationRun) -> bool:
    """Take what the starting ``run`` needs, in the caller's transaction; else hold the run and return False."""
    for condition in _registered:
        if why := condition.take(run):
            holds.place([run.scope], kind=condition.kind, actor=SYSTEM, reason=why)
            return False
    return True


def release(run_ids: Sequence[UUID], *, actor: Actor, reason: str) -> tuple[set[UUID], dict[UUID, str]]:
    """Release the conditions' holds on those of ``run_ids`` that meet them now: (released, why not by run)."""
    released: set[UUID] = set()
    refused: dict[UUID, str] = {}
    for condition in _registered:
        held = Hold.objects.covering(scopes.run(pk) for pk in run_ids).filter(kind=condition.kind)
        for scope in held.values_list("scope", flat=True):
            pk = UUID(scopes.runs_in([scope])[0])
            if why := condition.unmet(pk):
                refused[pk] = why
            elif holds.release([scope], kind=condition.kind, actor=actor, reason=reason):
                released.add(pk)
    return released, refused


def kinds() -> set[str]:
    """The kinds of holds that a resume may release beside an operator's."""
    return {str(condition.kind) for condition in _registered}
