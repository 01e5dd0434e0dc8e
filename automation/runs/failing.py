"""Fail a run."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django.db import transaction

from automation.errors import TransitionRefused
from automation.models import AutomationRun, StageRun
from automation.models.runs import lock_runs
from automation.pipeline import definition, failure_limit
from automation.pipeline.failure_limit import FailureLimit
from automation.reports import slice_totals
from automation.runs import questions, transitions
from automation.runs.questions import Asking, Kind
from pause_manager import scopes
from pause_manager.actor import SYSTEM
from pause_manager.messaging import notifier

logger = logging.getLogger("automation.runs.failing")


def fail(run_id: UUID, *, reason: str, details: dict[str, Any] | None = None) -> None:
    """Fail a running run; does nothing if it has ended or is being cancelled."""
    try:
        with transaction.atomic():
            lock_runs([str(run_id)])
            if AutomationRun.objects.unfinished().filter(pk=run_id, cancel_requested_at__isnull=False).exists():
                return  # the requested cancel wins
            transitions.apply(transitions.FAIL, run_id, actor=SYSTEM, reason=reason, details=details)
            notifier.changed(scopes.run(run_id))
    except TransitionRefused as refusal:
        logger.info("%s", refusal)


def fail_if_too_many(stage_run: StageRun, limit: FailureLimit, group_size: int) -> bool:
    """Fail the run, or have a person decide, if more items of the stage have failed than it allows.

    Returns whether that is so, and nobody has said that the stage continues regardless.
    """
    if limit is None:
        return False
    processed, failed = slice_totals.done(stage_run.pk)
    why = failure_limit.exceeded(limit, processed=processed, failed=failed, group_size=group_size)
    if why is not None and definition.of(stage_run).asks_when_exhausted:
        if questions.has_no_limit(stage_run):
            return False
        questions.ask(stage_run, Asking(Kind.FAILURES, f"{why.capitalize()}.", attempts=failed))
    elif why is not None:
        fail(stage_run.run_id, reason=f"{stage_run.slug}: {why}")
    return why is not None
