"""Admission of stage loops: whether the pause manager has room for them before they are sent, or begin a slice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from automation.errors import NoRoom
from automation.models.runs import lock_runs
from automation.models.tables import RUN, SLICE, STAGE, TICKET
from pause_manager import capacity, manager, nodes, scopes
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import NodeView
from pause_manager.models import PauseQueueEntry
from pause_manager.nodes import watching
from pause_manager.observability import metrics
from pause_manager.pause_queue.admission import QUEUED_BEHIND, AdmissionController, open_admission
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.probes.sample import Sample

logger = logging.getLogger("automation.dispatch.admission")

GO_ON = "automation.go_on"
"""The task that a parked run is sent on by."""


@dataclass(frozen=True)
class LoopRequest:
    """A stage that wants ``messages`` more loops; ``in_progress`` of them are leased or sent already."""

    stage_run_id: int
    slug: str
    run_id: UUID
    pipeline: str
    priority: int
    ignores_capacity: bool
    queue: str
    in_progress: int
    messages: int
    needs: Needs
    keeping_admission: int = 0
    """Slices whose worker was lost a moment ago and that keep their admission: they need not ask."""


@dataclass
class Admission:
    """What was granted (request, messages), and what is to be parked and the figures, by the sentence that says why."""

    granted: list[tuple[LoopRequest, int]] = field(default_factory=list)
    parked: dict[str, list[LoopRequest]] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)


NodesRead = Sequence[nodes.KnownNode] | str
"""The nodes, or the sentence that says why they could not be looked at."""


def read_nodes() -> NodesRead:
    """Look at the nodes before anything is locked: their samples are in Redis, which may hang."""
    try:
        return nodes.states() if watching.is_watched() else []
    except Exception as error:
        return _unreadable(error)


def admit(requests: Sequence[LoopRequest], seen: NodesRead, at_most: int | None = None) -> Admission:
    """Grant each request as many messages as have room (``at_most`` each), in the order given, reserving as it goes.

    Newcomers queue behind what waits and is no larger and no less urgent. A run that has worked, or was sent on, keeps
    one loop. If the capacity cannot be judged, nothing is granted but what ignores it. ``seen`` is from
    :func:`read_nodes`.
    """
    admission = Admission()
    if not requests:
        return admission
    controller, problem = _open_admission(seen)
    resumed = _Resumed(requests)
    for request in requests:
        asked = request.messages if at_most is None else min(request.messages, at_most)
        if request.ignores_capacity or (controller is None and not problem):
            admission.granted.append((request, asked))
            continue
        kept = min(asked, request.keeping_admission)
        verdict, fitting = _judge(controller, problem, request, asked - kept, resumed)
        fitting += kept
        manager.DECISIONS.add(code="granted" if fitting else verdict.code)
        if fitting:
            admission.granted.append((request, fitting))
        elif not request.in_progress:
            admission.parked.setdefault(verdict.sentence, []).append(request)
            admission.figures[verdict.sentence] = {"code": verdict.code, **verdict.figures}
    return admission


def _open_admission(seen: NodesRead) -> tuple[AdmissionController | None, str]:
    """The admission controller, or why there is none; neither if capacity is not watched."""
    if isinstance(seen, str):
        return None, seen
    try:
        with transaction.atomic():
            return open_admission(seen=seen), ""
    except Exception as error:
        return None, _unreadable(error)


class _Resumed:
    """Which runs have had their turn: they have worked, or the pause queue has sent them on. Read when first asked."""

    def __init__(self, requests: Sequence[LoopRequest]) -> None:
        self._requests = requests

    def includes(self, run_id: UUID) -> bool:
        return run_id in self._run_ids

    @cached_property
    def _run_ids(self) -> set[UUID]:
        with connection.cursor() as cursor:
            cursor.execute(_RESUMED, {"ids": list({request.run_id for request in self._requests})})
            return {row[0] for row in cursor.fetchall()}


def _judge(
    controller: AdmissionController | None, problem: str, request: LoopRequest, asked: int, resumed: _Resumed
) -> tuple[capacity.Verdict, int]:
    """The verdict on ``request``, and how many of ``asked`` loops fit."""
    if controller is not None:
        try:
            verdict = controller.should_pause(request.needs, pipeline=request.pipeline, queue=request.queue)
            if verdict.should_pause:
                return verdict, 0
            if controller.must_queue(request.needs, request.priority, pipeline=request.pipeline, queue=request.queue):
                asked = min(asked, 1) if not request.in_progress and resumed.includes(request.run_id) else 0
            if not asked:
                return replace(verdict, code="goes_behind", sentence=QUEUED_BEHIND), 0
            fitting = controller.reserve(request.needs, asked, pipeline=request.pipeline, queue=request.queue)
            # There is room, but not so much, or those before took it.
            reserved = controller.reserved_text(request.needs)
            short = f"No node has room for {request.needs} on top of work already sent{reserved}"
            return replace(verdict, code="does_not_fit", sentence=f"{short}: {verdict.sentence}"), fitting
        except Exception as error:
            problem = _unreadable(error)
    return capacity.Verdict(True, "unreadable", problem), 0


def _unreadable(error: Exception) -> str:
    logger.exception("Capacity could not be judged.")
    metrics.DEGRADED.add(layer="capacity")
    return f"Capacity could not be judged: {type(error).__name__}: {error}."


def park(admission: Admission) -> None:
    """Put the runs of which nothing is running and nothing fits into the pause queue, with a capacity hold.

    Whether something is in progress is looked at again under the run's lock: another stage of it, or somebody else's
    dispatch, may have found room.
    """
    for sentence, requests in admission.parked.items():
        runs = {request.run_id: request for request in reversed(requests)}
        with transaction.atomic():
            lock_runs([str(run_id) for run_id in runs])
            manager.pause_work(
                [
                    WithheldDispatch(
                        ref=scopes.run(run_id),
                        task_name=GO_ON,
                        args=[str(run_id)],
                        queue="control",
                        work_queue=runs[run_id].queue,
                        needs=runs[run_id].needs,
                        priority=runs[run_id].priority,
                        pipeline=runs[run_id].pipeline,
                    )
                    for run_id in _idle(list(runs))
                ],
                reason=sentence,
                details=admission.figures[sentence],
            )


def _idle(run_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the runs that are running and of which nothing is leased or sent."""
    with connection.cursor() as cursor:
        cursor.execute(_IDLE, {"ids": list(run_ids)})
        return [row[0] for row in cursor.fetchall()]


def room_here(
    node: str,
    needs: Needs,
    pipeline: str,
    told: NodeView | None = None,
    sample: Sample | None = None,
    among: Collection[str] | None = None,
    *,
    run_id: UUID | None = None,
    goes_on: bool = False,
) -> Sequence[str]:
    """The ids of the GPUs for a loop with ``needs`` on ``node``, which stays locked until the transaction ends.

    ``told`` is what an agent says of its machine, where no worker of ours samples it; ``sample`` what was known of
    another machine before the transaction began; ``goes_on`` says that the loop has just ended a slice there, and
    ``among`` which GPUs it has, if it has any. Raises ``NoRoom`` with the sentence that says what is short.
    """
    was_parked = None if run_id is None else _was_parked(run_id)
    admitted = manager.admit_on(
        node, needs, pipeline=pipeline, told=told, sample=sample, among=among, goes_on=goes_on, was_parked=was_parked
    )
    if isinstance(admitted, str):
        manager.DECISIONS.add(code="no_room_on_node")
        raise NoRoom(admitted)
    return admitted


def _was_parked(run_id: UUID) -> Callable[[], bool]:
    """Says of a run whether it comes from the pause queue: it was sent on, and nothing of it has been leased since."""

    def answer() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(_SENT_ON, {"run": run_id})
            return bool(cursor.fetchone()[0])

    return answer


_SENT_ON = f"""
    SELECT EXISTS (SELECT FROM {PauseQueueEntry._meta.db_table} AS entry
                    WHERE entry.ref = 'run:' || %(run)s::uuid AND entry.outcome = 'sent'
                      AND entry.sent_at > statement_timestamp() - interval '1 minute'
                      AND NOT EXISTS (
                          SELECT FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
                           WHERE stage.run_id = %(run)s AND slice.finished_at IS NULL
                             AND slice.lease_token IS NOT NULL))
"""

_RESUMED = f"""
    SELECT run.id FROM {RUN} AS run
     WHERE run.id = ANY(%(ids)s)
       AND (EXISTS (SELECT 1 FROM {PauseQueueEntry._meta.db_table} AS entry
                     WHERE entry.ref = 'run:' || run.id AND entry.outcome = 'sent')
            OR EXISTS (SELECT 1 FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
                        WHERE stage.run_id = run.id AND (slice.finished_at IS NOT NULL OR slice.cursor <> '')))
"""

_IDLE = f"""
    SELECT run.id FROM {RUN} AS run
     WHERE run.id = ANY(%(ids)s) AND run.lifecycle = 'running' AND run.cancel_requested_at IS NULL
       AND NOT run.ignores_capacity
       AND NOT EXISTS (
            SELECT 1 FROM {STAGE} AS stage
              LEFT JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
                    AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL
              LEFT JOIN {TICKET} AS ticket ON ticket.stage_run_id = stage.id
             WHERE stage.run_id = run.id AND (slice.id IS NOT NULL OR ticket.id IS NOT NULL))
"""
