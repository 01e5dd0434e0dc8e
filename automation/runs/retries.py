"""Retry a run: a new run over the items that failed or were never reached."""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from automation.errors import TransitionRefused
from automation.models import AutomationRun, Lifecycle
from automation.models.runs import lock_runs
from automation.models.work import WorkSlice
from automation.pipeline import definition
from automation.pipeline.definition import INPUT
from automation.reports import status
from automation.runs import creation, dependency_rows, lanes, stage_rows, transitions
from automation.runs.remainder import Remainder, Sources
from pause_manager import database
from pause_manager.actor import SYSTEM, Actor
from pause_manager.observability import audit

logger = logging.getLogger("automation.runs.retries")

RETRYABLE = (Lifecycle.COMPLETED, Lifecycle.FAILED)
COPIED_AT_ONCE = 10_000
"""Items copied within the request, about; the rest are copied in the background."""


def retry_failed(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Create and start a run over the items that ``run_id`` did not finish; returns it, linked by ``retry_of``.

    Site, pipeline and parameters are the same. Each item that failed in a stage or was not reached by it becomes,
    under its old key, an output of the stage it came from in the new run, so nothing before it is done again. What
    the old run has made stays there. A stage whose ``finish`` did not run is repeated as a whole. Where branches
    fork, an item that one of them did not finish passes through all of them again, with the same outputs.

    Of many items, most are copied by :func:`copy_remaining`: until then the new run waits, and its reasons say so.

    What waits for ``run_id`` by a dependency waits for the new run from then on.

    Raises ``TransitionRefused`` if the run is not completed or failed, has nothing to retry, was retried before, or
    still has workers finishing items; ``SiteClosed`` if its site takes no runs.
    """
    with transaction.atomic():
        lock_runs([str(run_id)])
        old = _retryable(run_id)
        new = create_like(old, actor, retry_of=old, copying={"step": 0, "after": None})
        creation.refuse_if_closed(old.site)
        olds = list(old.stages.filter(position__gte=0).order_by("position"))
        try:
            stage_rows.create_again(new, olds)
        except LookupError as unknown:
            raise _refusal(old, f"has a stage {unknown} that is not in this release") from None
        is_complete = _copy(old, new, at_most=COPIED_AT_ONCE)
        if is_complete and not new.total_items:
            raise _refusal(old, "has no unfinished items")
        details = {"pipeline": new.pipeline, "total_items": new.total_items, "params": new.params}
        if not is_complete:
            details["copying"] = True
        audit.record("create", scope=new.scope, actor=actor, reason=reason, details=details | {"retry_of": str(old.pk)})
        told: dict[str, Any] = {"retried_by": str(new.pk)}
        if waiting := dependency_rows.replace(old.pk, new.pk):
            told["now_waiting_for_the_retry"] = [str(pk) for pk in waiting]
        audit.record("retry", scope=old.scope, actor=actor, reason=reason, details=told)
        request_start(new, actor=actor, reason=reason)
    return lanes.begin_if_open(AutomationRun.objects.get(pk=new.pk), actor=actor, reason=reason)


def create_like(old: AutomationRun, actor: Actor, **more: Any) -> AutomationRun:
    """Create the row of a run with the site, pipeline, lane, parameters, pacing, priority and time limit of ``old``."""
    return AutomationRun.objects.create(
        site=old.site,
        pipeline=old.pipeline,
        lane=old.lane,
        params=old.params,
        pacing=old.pacing,
        created_by=actor.name,
        priority=old.priority,
        timeout_seconds=old.timeout_seconds,
        **more,
    )


def request_start(new: AutomationRun, *, actor: Actor, reason: str) -> None:
    """Ask for the start of a run that was created to retry another."""
    AutomationRun.objects.filter(pk=new.pk).update(start_requested_at=Now())
    audit.record("start_requested", scope=new.scope, actor=actor, reason=reason)


def copy_remaining(seconds: float = 20.0) -> int:
    """Continue copying for retries, the oldest first, and start the runs that are complete; returns how many.

    Each batch is a transaction of its own. Several callers share the work: each takes a run that no other has locked.
    """
    ends_at = time.monotonic() + seconds
    started = 0
    failed: list[UUID] = []
    while time.monotonic() < ends_at:
        waiting = AutomationRun.objects.filter(copying__isnull=False).exclude(pk__in=failed).order_by("created_at")
        pk = None
        try:
            with transaction.atomic():
                new = waiting.select_for_update(skip_locked=True, of=("self",)).select_related("retry_of").first()
                if new is None:
                    break
                pk = new.pk
                is_done = _step(new)
            if is_done:
                started += 1
                lanes.begin_if_open(AutomationRun.objects.get(pk=pk), actor=SYSTEM, reason="its items are copied")
        except TransitionRefused as refusal:
            logger.info("%s", refusal)
        except Exception as error:
            if database.is_away(error) or pk is None:
                raise
            logger.exception("Run %s could not be prepared; continuing with the others.", pk)
            failed.append(pk)
    return started


def _step(new: AutomationRun) -> bool:
    """Copy one batch for the locked run ``new``; returns whether it is ready to start."""
    if new.lifecycle != Lifecycle.PENDING or new.cancel_requested_at is not None or new.retry_of is None:
        AutomationRun.objects.filter(pk=new.pk).update(copying=None)
        return False
    if not _copy(new.retry_of, new, at_most=1):
        return False
    if not new.total_items:
        transitions.apply(transitions.CANCEL, new.pk, actor=SYSTEM, reason="no items are left to do")
        return False
    details = {"total_items": new.total_items}
    audit.record("prepared", scope=new.scope, actor=SYSTEM, reason="its items are copied", details=details)
    return True


def _copy(old: AutomationRun, new: AutomationRun, *, at_most: int) -> bool:
    """Copy batches until about ``at_most`` more items are copied; returns whether all are."""
    remainder = Remainder(old, new, sources_of(new))
    had = new.total_items
    while remainder.copy_batch():
        if new.total_items - had >= at_most:
            return False
    new.copying = None
    new.save(update_fields=["copying"])
    return True


def sources_of(run: AutomationRun) -> Sources:
    """By stage of ``run``, what it reads."""
    rows = run.stages.exclude(slug=INPUT).order_by("position")
    return {row.slug: definition.of(row).after or (INPUT,) for row in rows}


def _retryable(run_id: UUID) -> AutomationRun:
    runs = AutomationRun.objects.present().select_related("site")
    run: AutomationRun | None = runs.filter(pk=run_id).first()
    if run is None or run.lifecycle not in RETRYABLE:
        raise transitions.refusal("retry", run_id)
    earlier = AutomationRun.objects.filter(retry_of=run).values_list("pk", flat=True).first()
    if earlier is not None:
        raise _refusal(run, f"was retried before, by run {earlier}")
    if WorkSlice.objects.leased().filter(stage_run__run=run).exists():
        raise _refusal(run, f"is {run.lifecycle} but workers are still finishing its items")
    return run


def _refusal(run: AutomationRun, fact: str) -> TransitionRefused:
    return TransitionRefused("retry", run.pk, fact, status.of(run))
