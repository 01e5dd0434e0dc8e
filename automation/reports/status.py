"""The derived status of a run, as people see it. Everything that shows a status calls ``derive``."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from automation import gate
from automation.models import TERMINAL, AutomationRun

PAUSING, PAUSED, CANCELLING, WAITING = "pausing", "paused", "cancelling", "waiting"

COMPLETED_WITH_FAILURES = "completed_with_failures"
"""All stages are complete, and some items have failed."""

FINAL = ("completed", COMPLETED_WITH_FAILURES, "failed", "cancelled")
ALL = ("pending", WAITING, "running", PAUSING, PAUSED, CANCELLING, *FINAL)


def in_words(now: str) -> str:
    """Return a status as written in a sentence."""
    return now.replace("_", " ")


def derive(
    lifecycle: str,
    *,
    is_held: bool,
    is_cancel_requested: bool,
    is_leased: bool,
    has_reasons: bool = False,
    has_failures: bool = False,
) -> str:
    """The status of a run from its facts.

    A cancel beats a pause. A run is not ``paused`` while a worker holds one of its slices. ``has_reasons`` is
    whether the gate keeps it, which shows once nobody works on it; ``has_failures`` whether items of a completed run
    have failed.
    """
    if lifecycle == "completed" and has_failures:
        return COMPLETED_WITH_FAILURES
    if lifecycle in TERMINAL:
        return lifecycle
    if is_cancel_requested:
        return CANCELLING
    if is_held:
        return PAUSING if is_leased else PAUSED
    if has_reasons and (lifecycle == "pending" or not is_leased):
        return WAITING
    return lifecycle


def of(run: AutomationRun, *, has_reasons: bool | None = None) -> str:
    """The status of ``run``; one query unless it comes from ``with_leases()``.

    ``has_reasons`` is whether ``gate.explain`` has one that keeps it; by default the gate is asked, if that matters.
    """
    is_leased = getattr(run, "is_leased", None)
    if is_leased is None:
        return of(AutomationRun.objects.with_leases().get(pk=run.pk), has_reasons=has_reasons)
    if has_reasons is None:
        has_reasons = _may_wait(run) and run.pk in gate.blocked([run])
    return derive(
        run.lifecycle,
        is_held=run.paused_at is not None,
        is_cancel_requested=run.cancel_requested_at is not None,
        is_leased=is_leased,
        has_reasons=has_reasons,
        has_failures=run.failed_items > 0,
    )


def of_each(runs: Iterable[AutomationRun]) -> dict[UUID, str]:
    """The status of every run of ``with_leases()``: the gate is asked once for all."""
    listed = list(runs)
    kept = gate.blocked([run for run in listed if _may_wait(run)])
    return {run.pk: of(run, has_reasons=run.pk in kept) for run in listed}


def _may_wait(run: AutomationRun) -> bool:
    """Whether its status depends on the gate: nothing else decides it."""
    is_open = run.lifecycle not in TERMINAL and run.cancel_requested_at is None and run.paused_at is None
    return is_open and not getattr(run, "is_leased", False)
