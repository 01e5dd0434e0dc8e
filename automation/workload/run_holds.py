"""What a hold on runs, or on more, means for runs: their locks, their pause times, and what a release lets resume."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from automation import dispatch
from automation.errors import TransitionRefused
from automation.models import AutomationRun
from automation.models.runs import lock_runs
from automation.runs import advancing, lanes, lifecycle, places, transitions
from automation.workload import continued
from pause_manager.actor import CAPACITY, SYSTEM, Actor
from pause_manager.holds import milestones
from pause_manager.scopes import runs_in
from pause_manager.workloads import HoldChange

logger = logging.getLogger("automation.workload.run_holds")


def lock(scopes: Sequence[str]) -> None:
    """Lock the runs among ``scopes``."""
    if run_ids := runs_in(scopes):
        lock_runs(run_ids)


def follow(change: HoldChange) -> None:
    """Keep the pause times of the runs true, and dispatch what a release lets resume.

    What the poll releases is sent on by its own message, one loop at first.
    """
    run_ids = runs_in(change.scopes)
    if run_ids:
        transitions.update_pause_times(run_ids)
        if freed := places.leave(run_ids):
            transitions.announce_places(freed)
        if change.what == "placed" and (idle := lifecycle.idle_runs(run_ids)):
            milestones.note_drained(idle, had_work=False)
    if change.what == "released" and change.actor == CAPACITY:
        transaction.on_commit(lambda: lanes.fill_of(run_ids), robust=True)
    elif change.what == "released":
        transaction.on_commit(lambda: _resume(run_ids, change.actor, change.reason), robust=True)


def _resume(run_ids: list[str], actor: Actor, reason: str) -> None:
    if run_ids:
        lanes.fill_of(run_ids)
        advancing.seal_finished(run_ids)
        dispatch.of_runs(run_ids)
    else:
        lanes.fill_all()
        dispatch.dispatch()
        continued.record(actor, reason)


def cancel(scope: str, reason: str) -> None:
    """Cancel the run that ``scope`` names, if it is one that can be."""
    for run_id in runs_in([scope]):
        try:
            lifecycle.cancel(UUID(run_id), actor=SYSTEM, reason=reason)
        except TransitionRefused as refusal:
            logger.info("%s", refusal)


def ignore_capacity(refs: Sequence[str]) -> None:
    """Note in those of ``refs`` that are runs that they ask for no room."""
    AutomationRun.objects.unfinished().filter(pk__in=runs_in(refs)).update(ignores_capacity=True)
