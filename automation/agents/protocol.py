"""The pull protocol of remote agents. HTTP and MCP call these verbs.

The verbs are those of a stage loop (claim, heartbeat, checkpoint, release in ``leases`` and ``checkpoint``), behind the
same gate; a job is a leased slice. Every response is a dictionary for JSON with ``system``, the state of the fleet
switch; while that is paused no job is leased.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from automation import leases
from automation.agents import claiming, permits, registry, submission
from automation.agents.jobs import Job, page_of
from automation.agents.submission import Submission
from automation.errors import JobIncomplete, JobNotFound, LeaseLost
from automation.items import units
from automation.leases import checkpoint, stops
from automation.leases.checkpoint import Progress
from automation.models import Agent, WorkSlice
from automation.pipeline import FreezeLane, NeedsInput, TryLater
from automation.reports import progress_notifier
from automation.runs import advancing, failing, lifecycle, reconciler
from automation.worker import asking, postponement, throttling
from automation.worker.stage_loop import FAILED, PROCESSED
from pause_manager import fleet, resources
from pause_manager.actor import Actor
from pause_manager.capacity.snapshot import NodeView
from pause_manager.holds import milestones
from pause_manager.holds.stops import Stop
from pause_manager.observability import audit, metrics

Reply = dict[str, Any]


class AgentFailed(Exception):
    """An agent released its slice because of an error."""


def claim(
    agent: Agent,
    *,
    claim_id: str = "",
    stages: Sequence[str] = (),
    limit: int | None = None,
    view: NodeView | None = None,
) -> Reply:
    """``{job, reason, system}``: a slice for ``agent`` with its first items; without one, ``job`` is ``None``.

    ``stages`` narrows the choice. ``view`` is the free capacity of the agent's machine; ``reason`` says what it lacks,
    if that is why there is no job. A repeat with the same ``claim_id`` returns the job it has already.
    """
    state = fleet.state()
    if state.is_paused:
        return {"job": None, "reason": None, "system": registry.system_block(agent, state)}
    found, why = claiming.find(agent, claim_id=claim_id, stages=stages, view=view)
    if found is not None:
        metrics.guarded(milestones.note_work_resumed)(found.scopes)
        progress_notifier.publish_progress(found.run.scope)
    return {
        "job": found.as_dict(limit) if found else None,
        "reason": why or None,
        "system": registry.system_block(agent, state),
    }


def heartbeat(agent: Agent, job_id: int, token: int) -> Reply:
    """``{stop, system}``: keeps the lease; ``stop`` is the reason to release the slice, if there is one.

    Raises ``JobNotFound`` or ``LeaseLost``, as do the verbs below.
    """
    with transaction.atomic():
        stop = _held(agent, job_id, token).keep()
    return {"stop": _as_dict(stop), **_system(agent)}


def items(agent: Agent, job_id: int, token: int, *, after: str = "", limit: int | None = None) -> Reply:
    """``{items, more, stop, system}``: the items after the one with key ``after``, else those after the cursor.

    With ``more`` and no items, ``stop`` is why none may begin now.
    """
    with transaction.atomic():
        job = _held(agent, job_id, token)
    page = page_of(job, after=after, limit=limit)
    return {**page, "stop": _as_dict(page["stop"]), **_system(agent)}


def commit(agent: Agent, job_id: int, token: int, given: Submission, *, actor: Actor, release: bool = False) -> Reply:
    """``{cursor, finished, released, stop, system}``: commits all of ``given`` or nothing.

    With its last item the slice is finished; ``release`` releases it earlier. Committed items are not committed
    again. Raises ``InvalidCheckpoint`` or ``CheckpointConflict``.
    """
    with transaction.atomic():
        job = _found(agent, job_id, token)
    if not job.is_finished:
        # Before the slice is locked again: what pays for the items comes first.
        permits.check(job.stage_run, job.work, given.cursor.removeprefix(job.prefix))
    with transaction.atomic():
        job = _found(agent, job_id, token)
        if job.is_finished:
            if given.cursor != job.cursor:
                raise LeaseLost(f"Cannot checkpoint job {job_id}: it is finished.")
            submission.check_repeat(job.stage, job.stage_run, given)
            return {"cursor": job.cursor, "finished": True, "released": False, "stop": None, **_system(agent)}
        processed = failed = 0
        stop = job.keep()
        if given.cursor == job.cursor:
            submission.check_repeat(job.stage, job.stage_run, given)
            finished = False
            if release:
                leases.release(job.work)
        else:
            progress = submission.progress_of(job.work, job.stage_run, given)
            finished = checkpoint.commit(job.work, progress, release=release)
            processed, failed = progress.processed, progress.failed
        released = release and not finished
        if released and stop is not None:
            stops.record(job.stage_run, job.work, stop, worker=claiming.owner_of(agent), actor=actor)
    kind = {"pipeline": job.run.pipeline, "stage": job.stage_run.slug}
    PROCESSED.add(processed, **kind)
    FAILED.add(failed, **kind)
    if processed:
        resources.answered(job.stage.uses)
    _follow_up(job, has_failures=failed > 0, has_ended=finished or released)
    over = finished or released
    return {
        "cursor": job.cursor,
        "finished": finished,
        "released": released,
        "stop": None if over else _as_dict(stop),
        **_system(agent),
    }


def complete(agent: Agent, job_id: int, token: int, given: Submission, *, actor: Actor) -> Reply:
    """Commit the end of the slice; raises ``JobIncomplete`` and stores nothing if items are left."""
    with transaction.atomic():
        job = _found(agent, job_id, token)
        if given.cursor != job.last_key:
            raise JobIncomplete(f"Cannot complete job {job_id}: its last item is {job.last_key}, not {given.cursor!r}.")
    return commit(agent, job_id, token, given, actor=actor)


def fail(
    agent: Agent,
    job_id: int,
    token: int,
    error: str,
    *,
    actor: Actor,
    retry_after: float | None = None,
    resource: str | None = None,
) -> Reply:
    """``{system}``: releases the slice as it was last committed.

    It counts against the item after the cursor like a lost process, unless ``retry_after`` (seconds) asks to wait. Then
    all who use ``resource`` (by default the only one of the stage) wait, and it counts nothing; of a stage that uses
    none the job waits, and the item fails when its waits are exhausted.
    """
    with transaction.atomic():
        job = _held(agent, job_id, token)
    later = None if retry_after is None else TryLater(retry_after, error, resource=resource)
    # One that gives a job back as it is asks for no patience: 0.
    name = throttling.resource_of(job.stage, later) if later is not None and retry_after else None
    if name is not None and later is not None:
        # Before the slice is locked again: a resource comes first.
        throttling.throttle(job.stage_run, f"the item after {job.cursor or 'the beginning'}", name, later)
    with transaction.atomic():
        job = _held(agent, job_id, token)
        details = {"stage": job.stage_run.slug, "slice": job_id, "cursor": job.work.cursor, "retry_after": retry_after}
        why = f"{job.stage_run.slug}: {error}"
        audit.record("job_failed", scope=job.run.scope, actor=actor, reason=why, details=details)
        lost = None
        has_failures = False
        if later is None:
            lost = leases.release(job.work, is_crash=True)
        elif name is not None:
            leases.release(job.work)
        else:
            has_failures = _wait(job, later)
    if lost is not None:
        reconciler.handle_lost_leases([lost], AgentFailed(error))
    _follow_up(job, has_failures=has_failures, has_ended=True)
    return _system(agent)


def ask(agent: Agent, job_id: int, token: int, asked: NeedsInput | FreezeLane) -> Reply:
    """``{system}``: holds the run with a question about the item after the cursor, or freezes its lane because of it.

    The job is given back as it was last committed, and nothing has failed: the item is tried again once the question
    is answered, or the freeze lifted. Of a run that has ended, or is being cancelled, nothing is asked.
    """
    with transaction.atomic():
        job = _held(agent, job_id, token)
        unit = next(units.units_of(job.work, job.stage_run))
    # The run is locked before the slice: what has been found here is fenced by the token.
    asking.carry_out(job.stage_run, job.work, unit.key, asked, worker=claiming.owner_of(agent))
    _follow_up(job, has_ended=True)
    return _system(agent)


def _wait(job: Job, later: TryLater) -> bool:
    """Let the job wait because of the item after the cursor; returns whether that has failed instead."""
    unit = next(units.units_of(job.work, job.stage_run))
    out = postponement.limit_exceeded(job.stage, job.work, later)
    if out is not None:
        failures = unit.failures(out, job.work.waits + 1)
        progress = Progress(cursor=unit.last_key, failed=unit.size, failures=failures)
        checkpoint.commit(job.work, progress, release=True)
        return True
    postponement.postpone(job.stage_run, job.work, unit.key, later)
    return False


def _held(agent: Agent, job_id: int, token: int) -> Job:
    job = _found(agent, job_id, token)
    if job.is_finished:
        raise LeaseLost(f"Cannot continue job {job_id}: it is finished.")
    return job


def _found(agent: Agent, job_id: int, token: int) -> Job:
    """Return the job that ``agent`` holds, locked, or has finished, under ``token``."""
    row = claiming.visible_to(agent).filter(pk=job_id).first()
    if row is None:
        raise JobNotFound(f"Cannot find job {job_id}: there is none that this agent may hold.")
    work = claiming.held_by(agent, job_id, token)
    if work is not None:
        return Job(agent, row.stage_run, work)
    finished = WorkSlice.objects.filter(pk=job_id, finished_token=token).first()
    if finished is None:
        raise LeaseLost(f"Cannot continue job {job_id}: it is no longer held under token {token}.")
    return Job.finished(agent, row.stage_run, finished, token)


def _follow_up(job: Job, *, has_failures: bool = False, has_ended: bool = False) -> None:
    """Do what a stage loop does after a commit, and at its end."""
    if has_failures:
        failing.fail_if_too_many(job.stage_run, job.stage.max_failures, job.stage.group_size)
    if not has_ended:
        progress_notifier.publish_progress(job.run.scope)
        return
    advancing.seal_finished([job.run.pk])
    lifecycle.finish_cancels([job.run.pk])
    metrics.guarded(lifecycle.note_drained_runs)([job.run.pk])
    metrics.guarded(milestones.detect_drained)(job.scopes)
    progress_notifier.publish([job.run.scope])


def _as_dict(stop: Stop | None) -> dict[str, str] | None:
    return None if stop is None else {"code": stop.code, "sentence": stop.sentence}


def _system(agent: Agent) -> Reply:
    return {"system": registry.system_block(agent)}
