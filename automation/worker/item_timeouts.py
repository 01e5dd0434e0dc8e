"""What becomes of an item that takes longer than it may: its try has failed, and the run continues without its process.

The loop that takes the slice next finds the try marked on it, and tries again or gives the item up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, isfinite

from automation import conf, dispatch, leases
from automation.models import StageRun, WorkSlice
from automation.pipeline import definition
from automation.pipeline.context import TookTooLong
from automation.pipeline.definition import Definition
from automation.runs import lifecycle, loop_failures
from pause_manager.actor import SYSTEM
from pause_manager.observability import audit, metrics
from pause_manager.probes import processes
from pause_manager.slots import overruns
from pause_manager.slots.overruns import Overrun, OverrunRules

ENDED = metrics.counter(
    "slackwater_overruns_total",
    "Items that were ended: item_timeout (they took too long) or run_ended (their run was over).",
    ("why",),
)


def item_timeout(stage: Definition) -> float:
    """Seconds that one attempt at an item may take; ``inf`` for no limit."""
    return _limit(stage.item_timeout, conf.settings().item_timeout_seconds)


def hook_timeout(stage: Definition) -> float:
    """Seconds that ``prepare``, ``finish`` or the making of the stage may take."""
    return _limit(stage.hook_timeout, conf.settings().hook_timeout_seconds)


def _limit(declared: float | None, otherwise: float) -> float:
    return float(otherwise if declared is None else declared) or inf


def take_away(overrun: Overrun) -> Callable[[], object] | None:
    """End the lease and mark the try; what is then to be done. ``None`` if what has begun may not be cut short."""
    about, work = overrun.noted.about, overrun.work
    stage_run = StageRun.objects.select_related("run").filter(pk=about["stage_run"]).first()
    if overrun.has_ended and stage_run is not None and definition.of(stage_run).irreversible:
        return None
    slice_id, token = about.get("slice"), about.get("token")
    if stage_run is None:
        return _nothing
    if slice_id is None or token is None:
        _tell(stage_run, None, "", overrun)
        return _nothing
    number = None if overrun.has_ended else work.number
    key = leases.revoke(slice_id, token, number=number, attempts=work.attempt)
    if key is None:
        return _nothing
    ENDED.add(why="run_ended" if overrun.has_ended else "item_timeout")
    _tell(stage_run, slice_id, key, overrun)
    if number == -1 and WorkSlice.objects.filter(pk=slice_id).exclude(overrun_key="").exists():
        # The slice counts the tries of an item: those of the set-up are counted with the stage.
        error = TookTooLong("hook_timeout", work.limit)
        allowed = definition.of(stage_run).loop_retries
        loop_failures.record(stage_run, error, worker=overrun.noted.owner, retries=allowed, has_progressed=False)
    return partial(_carry_on, stage_run)


def _nothing() -> None:
    """It holds nothing: nobody waits for it but its place in the pool."""


def _carry_on(stage_run: StageRun) -> None:
    run_ids = [stage_run.run_id]
    lifecycle.finish_cancels(run_ids)
    metrics.guarded(lifecycle.note_drained_runs)(run_ids)
    dispatch.dispatch([stage_run.pk])


def _what(slice_id: int | None, key: str) -> str:
    if key:
        return f"item {key}"
    if slice_id is None:
        return "teardown"
    phase = WorkSlice.Phase(WorkSlice.objects.values_list("phase", flat=True).get(pk=slice_id))
    return "the making of the stage, or setup," if phase == WorkSlice.Phase.WORK else phase.label


def _tell(stage_run: StageRun, slice_id: int | None, key: str, overrun: Overrun) -> None:
    work, owner = overrun.work, overrun.noted.owner
    what = _what(slice_id, key)
    limit = "item_timeout" if key else "hook_timeout"
    why = f"took longer than {limit} = {work.limit:g} s"
    if overrun.has_ended:
        what, why = "its last item", f"was still running {work.seconds:.0f} s after it began, though the run has ended"
    place = "its process was killed"
    if not overrun.is_killed:
        place = "its pool is one process, so nobody can end it: its place is free when the worker restarts"
    audit.record(
        "overrun",
        scope=stage_run.run.scope,
        actor=SYSTEM,
        reason=f"{stage_run.slug}: {what} {why}; {place}",
        details={
            "stage": stage_run.slug,
            "slice": slice_id,
            "item": key,
            "attempt": work.attempt,
            "seconds": round(work.seconds, 1),
            "limit": work.limit if isfinite(work.limit) else None,
            "process": processes.pid_of(owner),
            "is_killed": overrun.is_killed,
        },
    )


overruns.register(
    OverrunRules(
        take_away,
        grace=lambda: conf.settings().overrun_grace_seconds,
        ended_grace=lambda: conf.settings().ended_grace_seconds,
    )
)
