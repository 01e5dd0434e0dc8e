"""Retry chosen failed items of a run, with their content changed if need be: a new run over these alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from automation.errors import TransitionRefused
from automation.models import AutomationRun
from automation.models.runs import lock_runs
from automation.models.work import WorkSlice
from automation.runs import creation, lanes, retries, stage_rows, transitions
from automation.runs.remainder import Remainder
from pause_manager.actor import Actor
from pause_manager.observability import audit

MOST_ITEMS = 2_000
"""Items of one retry; a whole run is retried by :func:`automation.runs.retries.retry_failed`."""


def retry_items(
    run_id: UUID,
    stage: str,
    keys: Sequence[str],
    *,
    payload: dict[str, Any] | None = None,
    actor: Actor,
    reason: str = "",
) -> AutomationRun:
    """Create and start a run over the items with ``keys`` that failed in ``stage`` of ``run_id``; returns it.

    ``payload`` replaces the content of the item, of which there must be one. As with a whole retry, each item becomes
    an output of the stage that it came from, and stages after ``stage`` follow. ``run_id`` itself does not change, and
    may be retried as a whole later: then these items are done again.

    Raises ``TransitionRefused`` if the run is not completed or failed, still has workers finishing items, or has no
    such failures; ``SiteClosed`` if its site takes no runs; ``ValueError`` for too many keys, or a payload for several.
    """
    wanted = list(dict.fromkeys(keys))
    if not 0 < len(wanted) <= MOST_ITEMS:
        raise ValueError(f"expected 1 to {MOST_ITEMS:,} items, got {len(wanted):,}")
    if payload is not None and len(wanted) > 1:
        raise ValueError("expected one item with a changed payload, got several")
    with transaction.atomic():
        lock_runs([str(run_id)])
        old = _ended(run_id)
        creation.refuse_if_closed(old.site)
        new = retries.create_like(old, actor)
        try:
            stage_rows.create_again(new, list(old.stages.filter(position__gte=0).order_by("position")))
        except LookupError as unknown:
            raise _refusal(old, f"has a stage {unknown} that is not in this release") from None
        copied = Remainder(old, new, retries.sources_of(new)).copy_chosen(stage, wanted, payload)
        if not copied:
            raise _refusal(old, f"has no such failed items in stage {stage}")
        details = {"pipeline": new.pipeline, "total_items": copied, "params": new.params, "items_of": str(old.pk)}
        audit.record("create", scope=new.scope, actor=actor, reason=reason, details=details)
        told = {"retried_by": str(new.pk), "stage": stage, "items": copied, "is_edited": payload is not None}
        audit.record("retry", scope=old.scope, actor=actor, reason=reason, details=told)
        retries.request_start(new, actor=actor, reason=reason)
    return lanes.begin_if_open(AutomationRun.objects.get(pk=new.pk), actor=actor, reason=reason)


def _ended(run_id: UUID) -> AutomationRun:
    run: AutomationRun | None = AutomationRun.objects.present().select_related("site").filter(pk=run_id).first()
    if run is None or run.lifecycle not in retries.RETRYABLE:
        raise transitions.refusal("retry", run_id)
    if WorkSlice.objects.leased().filter(stage_run__run=run).exists():
        raise _refusal(run, f"is {run.lifecycle} but workers are still finishing its items")
    return run


def _refusal(run: AutomationRun, fact: str) -> TransitionRefused:
    return TransitionRefused("retry", run.pk, fact, run.lifecycle)
