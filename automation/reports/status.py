"""The derived status of a run, as people see it. Everything that shows a status calls ``derive``."""

from __future__ import annotations

from typing import Protocol

from automation.models import TERMINAL, AutomationRun


class HasLeases(Protocol):
    """A run from ``AutomationRun.objects.with_leases()``."""

    is_leased: bool


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
    whether the gate keeps a run that has not started, ``has_failures`` whether items of a completed run have failed.
    """
    if lifecycle == "completed" and has_failures:
        return COMPLETED_WITH_FAILURES
    if lifecycle in TERMINAL:
        return lifecycle
    if is_cancel_requested:
        return CANCELLING
    if is_held:
        return PAUSING if is_leased else PAUSED
    if lifecycle == "pending" and has_reasons:
        return WAITING
    return lifecycle


FACTS = ("lifecycle", "paused_at", "cancel_requested_at", "failed_items")


def of(run: AutomationRun, *, has_reasons: bool = False) -> str:
    """The status of ``run``; one query unless it comes from ``with_leases()``."""
    is_leased = getattr(run, "is_leased", None)
    if is_leased is None:
        fresh = AutomationRun.objects.with_leases().only(*FACTS).get(pk=run.pk)
        return of(fresh, has_reasons=has_reasons)
    return derive(
        run.lifecycle,
        is_held=run.paused_at is not None,
        is_cancel_requested=run.cancel_requested_at is not None,
        is_leased=is_leased,
        has_reasons=has_reasons,
        has_failures=run.failed_items > 0,
    )
