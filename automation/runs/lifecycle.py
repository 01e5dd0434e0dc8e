"""The verbs that every entry point calls: create, start, pause, resume, cancel, fail. Ids in, one outcome out.

Every verb is bounded database work; none waits for a worker.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now
from django.dispatch import receiver

from automation import conf, dispatch, gate
from automation.errors import InvalidInput, SiteClosed, TransitionRefused
from automation.inputs import Input
from automation.items import keys, store
from automation.models import AutomationRun, Lifecycle, Site, StageRun, WorkSlice
from automation.pipeline import Payload, Pipeline, failure_limit, get_pipeline, run_input
from automation.pipeline.failure_limit import FailureLimit
from automation.reports import in_flight, slice_totals, status
from automation.runs import advancing, stage_rows, transitions
from automation.workload import continued
from pause_manager import holds
from pause_manager.holds import milestones
from pause_manager.messaging import notifier
from pause_manager.models import Hold
from pause_manager.observability import audit
from pause_manager.observability.actor import SYSTEM, Actor
from pause_manager.pause_queue.writer import CAPACITY
from pause_manager.signals import forced_on, hold_changed, hold_changing, hold_expired

logger = logging.getLogger("automation.runs.lifecycle")


@dataclass(frozen=True)
class Outcome:
    """What a verb over several runs did, and what it refused."""

    done: list[UUID] = field(default_factory=list)
    refused: list[TransitionRefused] = field(default_factory=list)


def create(
    pipeline_slug: str,
    *,
    site: Site,
    actor: Actor,
    params: dict[str, Any] | None = None,
    items: Iterable[Payload] | None = None,
    start: bool = True,
    timeout_seconds: float | None = None,
    is_forced: bool = False,
) -> AutomationRun:
    """Create a run with its input, all or nothing, and start it if the gate is open (else as soon as it opens).

    ``items`` are JSON objects, of an ``Input`` the event tells what was read and left out; ``None`` for a pipeline that
    makes its own. ``timeout_seconds`` (> 0) is working time; ``None`` for what the pipeline says. One that
    ``is_forced`` asks for no room. Raises ``UnknownPipeline``, ``InvalidParams``, ``InvalidInput`` or ``SiteClosed``,
    each naming what was wrong.
    """
    pipeline = get_pipeline(pipeline_slug)
    cleaned = pipeline.clean_params(params or {})
    payloads = _payloads(pipeline, cleaned, items)
    with transaction.atomic():
        # Asked for in the same transaction: whoever dies after it leaves a run that the reconciler starts.
        asked = Now() if start else None
        run = AutomationRun.objects.create(
            site=site,
            pipeline=pipeline.slug,
            lane=site.slug,
            params=cleaned,
            created_by=actor.name,
            start_requested_at=asked,
            timeout_seconds=pipeline.timeout if timeout_seconds is None else timeout_seconds,
            ignores_capacity=is_forced,
        )
        refuse_if_closed(site)
        source = stage_rows.create(run, pipeline)
        rows = _Rows(str(source.pk).encode(), payloads, pipeline)
        store.write(rows)
        if not rows.count:
            raise InvalidInput("Cannot create the run: its input has no items.")
        run.total_items = rows.count
        run.save(update_fields=["total_items"])
        StageRun.objects.filter(pk=source.pk).update(total_items=rows.count)
        figures = {"pipeline": pipeline.slug, "total_items": rows.count, "params": cleaned}
        after = {"lifecycle": str(Lifecycle.PENDING), "start_requested": start}
        if is_forced:
            figures["forced"] = True
        if isinstance(items, Input):
            figures["input"] = items.report.figures()
        audit.record("create", scope=run.scope, actor=actor, figures=figures, after=after)
    run.refresh_from_db()
    return begin_if_open(run, actor=actor) if start else run


def refuse_if_closed(site: Site) -> None:
    """Raise ``SiteClosed`` if the site or its account is closed, and keep it from being closed in this transaction."""
    with connection.cursor() as cursor:
        # Whoever closes it has locked it: the look comes after the wait.
        cursor.execute(f"SELECT 1 FROM {Site._meta.db_table} WHERE id = %s FOR KEY SHARE", [site.pk])
    closed = Site.objects.filter(pk=site.pk).values_list("closed_at", "account__closed_at").get()
    since = next((at for at in closed if at is not None), None)
    if since is not None:
        raise SiteClosed(site.slug, since)


def start_run(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Start a pending run, or note that it is to start when the gate opens. Raises ``TransitionRefused``."""
    with transaction.atomic():
        asked = AutomationRun.objects.filter(pk=run_id, lifecycle=Lifecycle.PENDING, cancel_requested_at__isnull=True)
        if not asked.update(start_requested_at=Now()):
            raise transitions.refusal("start", run_id)
        # If the gate is shut, the start itself comes later, and by the system.
        audit.record("start_requested", scope=f"run:{run_id}", actor=actor, reason=reason)
    return begin_if_open(AutomationRun.objects.get(pk=run_id), actor=actor, reason=reason)


def begin_if_open(run: AutomationRun, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Begin a pending run that was asked to start, if nothing keeps it."""
    if gate.may_start(run):
        try:
            advancing.begin(run, actor=actor, reason=reason)
        except TransitionRefused:
            run.refresh_from_db()
            if run.started_at is None:
                raise
            # The reconciler was faster: it is started, as asked.
        run.refresh_from_db()
    return run


def pause(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Hold the run: no item starts after this is heard, and what runs finishes. A second pause changes nothing.

    Raises ``TransitionRefused`` if the run is final or being cancelled.
    """
    outcome = pause_runs([run_id], actor=actor, reason=reason)
    if outcome.refused:
        raise outcome.refused[0]
    return AutomationRun.objects.with_leases().get(pk=run_id)


def pause_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Hold every run of ``run_ids`` that can be, in one transaction; the others are refused, each with why."""
    with transaction.atomic():
        transitions.lock([str(pk) for pk in run_ids])
        able = AutomationRun.objects.unfinished().filter(pk__in=run_ids, cancel_requested_at__isnull=True)
        ids = list(able.values_list("pk", flat=True))
        figures = in_flight.of_runs(ids)
        holds.place([f"run:{pk}" for pk in ids], actor=actor, reason=reason, figures=figures)
    accepted = set(ids)
    refused = [transitions.refusal("pause", pk) for pk in run_ids if pk not in accepted]
    return Outcome(ids, refused)


def resume(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """Release the operator's hold; the run goes on unless something else keeps it.

    Raises ``TransitionRefused`` if there is no such hold.
    """
    outcome = resume_runs([run_id], actor=actor, reason=reason)
    if outcome.refused:
        raise outcome.refused[0]
    return AutomationRun.objects.with_leases().get(pk=run_id)


def resume_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Release the operator's hold of every run of ``run_ids`` that has one; the others are refused."""
    released = holds.release([f"run:{pk}" for pk in run_ids], actor=actor, reason=reason)
    done = {UUID(scope.removeprefix("run:")) for scope in released}
    refused = [_not_resumed(pk) for pk in run_ids if pk not in done]
    return Outcome([pk for pk in run_ids if pk in done], refused)


def _not_resumed(run_id: UUID) -> TransitionRefused:
    """Why there was nothing to resume; a hold that is not an operator's is named, since it looks like a pause too."""
    refused = transitions.refusal("resume", run_id)
    kinds = Hold.objects.covering([f"run:{run_id}"]).values_list("kind", flat=True)
    if kinds and refused.status in (status.PAUSED, status.PAUSING):
        fact = f"is kept by a {' and a '.join(sorted(kinds))} hold, not by an operator's"
        return TransitionRefused("resume", run_id, fact, refused.status)
    return refused


def cancel(run_id: UUID, *, actor: Actor, reason: str = "") -> AutomationRun:
    """End the run for good: at once if no worker holds a slice of it, else when the last one has given it back.

    A repeated cancel changes nothing. Raises ``TransitionRefused`` if the run is final for another reason.
    """
    with transaction.atomic():
        transitions.lock([str(run_id)])
        if AutomationRun.objects.filter(pk=run_id, lifecycle=Lifecycle.CANCELLED).exists():
            return AutomationRun.objects.with_leases().get(pk=run_id)
        if transitions.request_cancel(run_id, actor=actor):
            scope = f"run:{run_id}"
            figures = in_flight.of_runs([run_id]).get(scope)
            audit.record(
                "cancel_requested",
                scope=scope,
                actor=actor,
                reason=reason,
                figures=figures,
                before={"cancel_requested": False},
                after={"cancel_requested": True},
            )
            notifier.changed(scope)
            _end_if_idle(run_id, actor=actor, reason=reason)
    return AutomationRun.objects.with_leases().get(pk=run_id)


def cancel_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str = "") -> Outcome:
    """Cancel each of ``run_ids``; the final ones are refused."""
    outcome = Outcome()
    for pk in run_ids:
        try:
            cancel(pk, actor=actor, reason=reason)
            outcome.done.append(pk)
        except TransitionRefused as refusal:
            outcome.refused.append(refusal)
    return outcome


def finish_cancels(run_ids: Sequence[UUID] | None = None) -> int:
    """Make runs cancelled whose cancel was asked for and of which no slice is held any more; returns how many."""
    asked = AutomationRun.objects.unfinished().filter(cancel_requested_at__isnull=False)
    if run_ids is not None:
        asked = asked.filter(pk__in=run_ids)
    ended = 0
    for pk, name in list(asked.values_list("pk", "cancel_requested_by")):
        with transaction.atomic():
            transitions.lock([str(pk)])
            ended += _end_if_idle(pk, actor=Actor(name, "worker"), reason="the last worker has given its slice back")
    return ended


def settle_pauses(run_ids: Sequence[UUID] | None = None) -> int:
    """Note which held runs have come to rest: no slice of theirs is leased any more. Returns for how many holds.

    While a run is held nothing of it is leased anew, so what is found at rest stays so.
    """
    holds_on_runs = Hold.objects.active().filter(settled_at__isnull=True, scope__startswith="run:")
    if run_ids is not None:
        holds_on_runs = holds_on_runs.filter(scope__in=[f"run:{pk}" for pk in run_ids])
    at_rest = _idle(_run_ids(holds_on_runs.values_list("scope", flat=True)))
    return milestones.settled(at_rest)


def _idle(run_ids: Sequence[str]) -> list[str]:
    """The scopes of those of the runs of which nothing is leased."""
    if not run_ids:
        return []
    leased = WorkSlice.objects.leased().filter(stage_run__run__in=[UUID(pk) for pk in run_ids])
    at_work = {str(pk) for pk in leased.values_list("stage_run__run", flat=True)}
    return [f"run:{pk}" for pk in run_ids if pk not in at_work]


def fail(run_id: UUID, *, reason: str, figures: dict[str, Any] | None = None) -> None:
    """Fail a running run. Nothing happens if it has ended meanwhile or is being cancelled."""
    try:
        with transaction.atomic():
            transitions.lock([str(run_id)])
            if AutomationRun.objects.unfinished().filter(pk=run_id, cancel_requested_at__isnull=False).exists():
                return  # who asked for the end gets the end that was asked for
            transitions.apply(transitions.FAIL, run_id, actor=SYSTEM, reason=reason, figures=figures)
            notifier.changed(f"run:{run_id}")
    except TransitionRefused as refusal:
        logger.info("%s", refusal)


def fail_if_too_many(stage_run: StageRun, limit: FailureLimit, group_size: int) -> bool:
    """Fail the run if more items of the stage have failed than it allows; whether they have."""
    if limit is None:
        return False
    processed, failed = slice_totals.done(stage_run.pk)
    why = failure_limit.exceeded(limit, processed=processed, failed=failed, group_size=group_size)
    if why is not None:
        fail(stage_run.run_id, reason=f"{stage_run.slug}: {why}")
    return why is not None


def _end_if_idle(run_id: UUID, *, actor: Actor, reason: str) -> bool:
    if WorkSlice.objects.leased().filter(stage_run__run=run_id).exists():
        return False
    if not AutomationRun.objects.unfinished().filter(pk=run_id).exists():
        return False
    transitions.apply(transitions.CANCEL, run_id, actor=actor, reason=reason)
    return True


def _payloads(pipeline: type[Pipeline], params: dict[str, Any], items: Iterable[Payload] | None) -> Iterable[Payload]:
    run_input.check_need(pipeline, is_given=items is not None)
    return pipeline.make_items(params) if items is None else items


class _Rows:
    """The COPY rows of a run's input, counted as they go by."""

    def __init__(self, made_by: bytes, payloads: Iterable[Payload], pipeline: type[Pipeline]) -> None:
        self.count = 0
        self._made_by = made_by
        self._payloads = payloads
        self._pipeline = pipeline

    def __iter__(self) -> Iterator[bytes]:
        limit = conf.settings().max_input_items
        for ordinal, payload in enumerate(self._payloads):
            if ordinal >= limit:
                raise InvalidInput(f"Cannot create the run: expected at most {limit:,} items, got more.")
            try:
                encoded = run_input.checked_item(self._pipeline, payload)
            except InvalidInput as error:
                raise InvalidInput(f"Cannot use item {ordinal + 1:,}: {str(error).removesuffix('.')}.") from None
            self.count = ordinal + 1
            yield store.row(self._made_by, keys.segment(ordinal), encoded)


def _run_ids(scopes: Iterable[str]) -> list[str]:
    """The ids in ``run:x``; what is no id is no run of ours."""
    return [scope[4:] for scope in scopes if _RUN_SCOPE.fullmatch(scope)]


_RUN_SCOPE = re.compile(r"run:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@receiver(hold_changing)
def _lock_runs(sender: object, scopes: list[str], **_: object) -> None:
    if run_ids := _run_ids(scopes):
        transitions.lock(run_ids)


@receiver(hold_changed)
def _keep_up(sender: object, scopes: list[str], change: str, actor: Actor, reason: str, **_: object) -> None:
    """Keep the pause times of the runs true, and send what a release lets go on.

    What the poll releases is sent on by its own message, one loop at first.
    """
    run_ids = _run_ids(scopes)
    if run_ids:
        transitions.keep_pause_times(run_ids)
        if change == "placed" and (idle := _idle(run_ids)):
            milestones.settled(idle, had_work=False)
    if change == "released" and actor != CAPACITY:
        transaction.on_commit(lambda: _go_on(run_ids, actor, reason), robust=True)


def _go_on(run_ids: list[str], actor: Actor, reason: str) -> None:
    if run_ids:
        advancing.start_waiting(run_ids)
        advancing.seal_finished(run_ids)
        dispatch.of_runs(run_ids)
    else:
        advancing.start_waiting()
        dispatch.dispatch()
        continued.record(actor, reason)


@receiver(hold_expired)
def _cancel_held(sender: object, hold: Hold, **_: object) -> None:
    for run_id in _run_ids([hold.scope]):
        try:
            cancel(UUID(run_id), actor=SYSTEM, reason="its hold ended with a cancel")
        except TransitionRefused as refusal:
            logger.info("%s", refusal)


@receiver(forced_on)
def _ignore_capacity(sender: object, refs: Sequence[str], **_: object) -> None:
    AutomationRun.objects.unfinished().filter(pk__in=_run_ids(refs)).update(ignores_capacity=True)
