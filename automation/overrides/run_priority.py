"""The priority of a run, for a while."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from automation.models import AutomationRun
from automation.overrides.named_run import id_of
from automation.runs import priority
from automation.runs.priority import FIRST, LAST
from pause_manager import scopes
from pause_manager.overrides import OverrideKind, OverrideRefused, OverrideTargetUnknown


class RunPriority(OverrideKind):
    """A column that turns, lists and the pause queue are ordered by: written over, and put back."""

    name = "run_priority"
    title = "priority of run"
    targets = "one run: its id, the first 4 or more digits of it, or latest"
    values = f"a whole number from {FIRST} (first) to {LAST}"

    def target(self, text: str) -> str:
        return id_of(self, text, text)

    def value(self, text: str) -> int:
        if text.isascii() and text.isdecimal() and FIRST <= int(text) <= LAST:
            return int(text)
        raise self.invalid_value(text)

    def scope(self, target: str) -> str:
        return scopes.run(target)

    def apply(self, target: str, value: Any) -> int:
        before = priority.swap(UUID(target), value)
        if before is None:
            raise refusal(UUID(target), "priority")
        return before

    def restore(self, target: str, value: Any, previous: Any) -> str:
        if priority.swap(UUID(target), previous, only_if=value) is not None:
            return f"the priority is {previous} again"
        return "the run has ended, or its priority was changed meanwhile and stays so"


def refusal(run_id: UUID, what: str) -> OverrideTargetUnknown | OverrideRefused:
    """Why nothing of the run can be overridden."""
    known = AutomationRun.objects.present().filter(pk=run_id).values_list("lifecycle", flat=True).first()
    if known is None:
        return OverrideTargetUnknown(f"Cannot override the {what} of run {run_id}: there is no such run.")
    return OverrideRefused(f"Cannot override the {what} of run {run_id}: it is {known}.")
