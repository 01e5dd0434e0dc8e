"""PauseManager: may this work start, what waits, what goes on. The thin shell round the pure policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from django.db import connection, transaction

from pause_manager import capacity, conf, database, holds, nodes, pause_queue, workloads
from pause_manager.actor import Actor
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import NodeView
from pause_manager.errors import InvalidHold
from pause_manager.models import PauseQueueEntry
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import serving, watching
from pause_manager.nodes.machines import identity
from pause_manager.observability import gate_health, metrics
from pause_manager.pause_queue import heads, poller
from pause_manager.pause_queue.admission import QUEUED_BEHIND, must_queue, open_admission
from pause_manager.pause_queue.poller import Poll as Poll
from pause_manager.pause_queue.ramp import Ramp
from pause_manager.pause_queue.writer import Parked
from pause_manager.probes import processes
from pause_manager.probes.sample import Sample
from pause_manager.slots import gpus
from pause_manager.workloads import WorkKind

logger = logging.getLogger("pause_manager.manager")

POLLING = metrics.histogram("slackwater_poll_duration_seconds", "How long one poll of the pause queue took.")
POLL_FAILURES = metrics.counter("slackwater_poll_failures_total", "Polls of the pause queue that failed.")
DECISIONS = metrics.counter(
    "slackwater_capacity_decisions_total",
    "Answers to work that asks for room: granted, or why not.",
    ("code",),
)

BACK_OFF_SECONDS = 30
_failed_at: float | None = None


def should_pause(needs: Needs, *, pipeline: str = "", queue: str = "") -> capacity.Verdict:
    """Whether new work with ``needs`` must wait, and why. An error while looking means that it must (P-10).

    With ``queue`` only nodes count on which a live worker serves it.
    """
    return judge()(needs, pipeline, queue)


def judge(level: int = logging.INFO) -> Callable[[Needs, str, str], capacity.Verdict]:
    """``should_pause`` for many (needs, pipeline, queue), all from one look at the fleet; logged at ``level``."""
    try:
        controller = open_admission(level)
    except Exception as error:
        problem = _unreadable(error)
        return lambda needs, pipeline, queue: problem

    def verdict(needs: Needs, pipeline: str, queue: str) -> capacity.Verdict:
        if controller is None:
            return capacity.Verdict(False, "not_watched", "Capacity is not watched.")
        try:
            return controller.should_pause(needs, pipeline=pipeline, queue=queue)
        except Exception as error:
            return _unreadable(error)

    return verdict


def verdicts(pipeline: str = "") -> list[tuple[WorkKind, capacity.Verdict]]:
    """The verdict on new work of each kind (of the named pipeline), from one look at the fleet."""
    verdict = judge(logging.DEBUG)
    found = [kind for kind in workloads.kinds() if not pipeline or kind.pipeline == pipeline]
    return [(kind, verdict(kind.needs, kind.pipeline, kind.queue)) for kind in found]


def _unreadable(error: Exception) -> capacity.Verdict:
    logger.exception("Capacity could not be judged.")
    metrics.DEGRADED.add(layer="capacity")
    return capacity.Verdict(True, "unreadable", f"Capacity could not be judged: {type(error).__name__}: {error}.")


def admit_on(
    node: str,
    needs: Needs,
    *,
    pipeline: str = "",
    told: NodeView | None = None,
    newcomer: int | None = None,
    sample: Sample | None = None,
    among: Collection[str] | None = None,
    goes_on: bool = False,
    was_parked: Callable[[], bool] | None = None,
) -> tuple[str, ...] | str:
    """The ids of the GPUs for work with ``needs`` that starts on ``node`` now, or the sentence that says what is short.

    Locks the node's row until the caller's transaction ends, so that admissions to one node take turns and each sees
    the leases of those before it. ``told`` is what a machine without workers of ours says of itself: it is believed,
    and a lock on its name takes the place of the row. ``newcomer`` is the priority of work that nobody has admitted
    before: it queues behind what waits. ``sample`` is what ``nodes.latest`` gave before the transaction; whoever admits
    to this machine needs none. Of this machine those GPUs count that this process may use, and with ``among`` only
    those: a loop stays on the cards that it has. What cannot be judged admits nothing: the error is raised.

    A node that is saturated or kept free for large work admits nothing else, and what strangers lately used more stays
    free. ``goes_on`` says of a loop that it has just ended a slice there: it is not new, and only what is kept free
    concerns it. Of what ``was_parked`` (asked if need be) a node that cools down takes none.
    """
    with gate_health.counted("capacity"):
        if not watching.is_watched():
            return ()
        if told is not None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"slackwater node {node}"])
        found, at = nodes.lock(node, sample)
        view = found.view if found is not None else told
        if view is None:
            return f"{node} has no fresh sample."
        # A poll may have kept the node for other work while this waited for the lock.
        kept = Ramp.stored()
        mine = workloads.allocations_by_node(node).get(node, ())
        view = view.carrying(load for load in mine if not load.is_sent)
        if node == identity.known_name():
            view = _from_here(view, needs, among)
        state = found.watch.state if found is not None and found.row.policy_state and not goes_on else None
        now, policy = at or database_seconds(), conf.settings().policy_of(pipeline)
        admission = capacity.admit(
            view,
            needs,
            policy,
            now,
            state,
            kept_for=kept.kept[node].needs if node in kept.barred(needs, now) else None,
            was_parked=state is not None
            and not state.takes_parked_work(now)
            and was_parked is not None
            and was_parked(),
        )
        if isinstance(admission, capacity.Verdict):
            logger.info("No room for a loop: %s %s", admission.sentence, admission.figures)
            return admission.sentence
        if newcomer is not None:
            ahead = heads.kinds(conf.settings().policy_of().ageing_seconds, serving.of_node(node))
            if must_queue(ahead, needs, newcomer, pipeline=pipeline):
                logger.info("No turn for a newcomer: %s", QUEUED_BEHIND)
                return QUEUED_BEHIND
        return admission.gpus


def _from_here(view: NodeView, needs: Needs, among: Collection[str] | None) -> NodeView:
    """This machine as this worker has it: with its container's limits, and the cards that it may use."""
    view = capacity.within(view, processes.container())
    return gpus.offered(view, among) if needs.gpus else view


def suits_here(node: str, ids: Sequence[str], *, needs: Needs, among: Collection[str] | None = None) -> bool:
    """Whether this process can use an admission to ``node`` with ``needs`` that another process was given.

    It must see the GPUs with these ``ids``, which are all of ``among`` if it has cards already, and its container must
    have room beside what its own workers have. Locks the node's row, as ``admit_on``.
    """
    if among is not None and set(ids) != set(among):
        return False
    if not conf.settings().capacity or node != identity.known_name():
        return True
    found, at = nodes.lock(node)
    if found is None:
        return False
    view = _from_here(found.view.carrying(workloads.allocations_by_node(node).get(node, ())), needs, among)
    usable = {gpu.id for gpu in view.gpus if not gpu.problem}
    return usable >= set(ids) and capacity.container_fits(view, needs, at or database_seconds())


def pause_work(items: Sequence[Parked], *, reason: str, details: dict[str, Any] | None = None) -> int:
    """Withhold the dispatches: an entry each, and a capacity hold on those that are runs. Returns how many wait."""
    return pause_queue.park(items, reason=reason, details=details or {})


def resume_paused_work() -> int:
    """One poll; returns how many entries were sent on."""
    return poll().sent


def poll() -> Poll:
    """Send on what has room: in order of priority then age, gently, each exactly once. One poll at a time.

    A failure is logged, keeps this process from polling for ``BACK_OFF_SECONDS``, and never reaches the caller.
    """
    global _failed_at
    if _failed_at is not None and time.monotonic() < _failed_at + BACK_OFF_SECONDS:
        return Poll(skipped="it failed a short time ago")
    try:
        seen = nodes.states()
        with transaction.atomic():
            if not pause_queue.lock_poll():
                return Poll(skipped="another poll is under way")
            with POLLING.timed():
                done = poller.poll(nodes.still_called_so(seen))
        _failed_at = None
        return done
    except Exception as error:
        POLL_FAILURES.add()
        if database.is_away(error):
            database.note_away(error, "the poll of the pause queue")
            database.close()
            return Poll(skipped="the database is away")
        logger.exception("The poll failed; the next one is in %d seconds.", BACK_OFF_SECONDS)
        _failed_at = time.monotonic()
        return Poll(skipped="it failed")


def force_resume(entry_id: int, *, actor: Actor, reason: str = "") -> bool:
    """Send one entry on whatever the capacity says; False if it does not wait any more."""
    with transaction.atomic():
        entry = PauseQueueEntry.objects.waiting().filter(pk=entry_id)
        ref = entry.values_list("ref", flat=True).first()
        if ref is None:
            return False
        holds.lock([ref])
        if not entry.exists():
            return False
        workloads.ignore_capacity([ref])
        details = {entry_id: {"forced": True}}
        return bool(pause_queue.send_on([entry_id], actor=actor, reason=reason or "forced", details=details))


def force_pause(entry_id: int, *, actor: Actor, reason: str = "") -> bool:
    """Hold the run that waits in an entry until an operator resumes it; it keeps its place. False if it does not wait.

    Raises ``InvalidHold`` if what waits is no run: only a run can be held.
    """
    with transaction.atomic():
        ref = PauseQueueEntry.objects.waiting().filter(pk=entry_id).values_list("ref", flat=True).first()
        if ref is None:
            return False
        if not ref.startswith("run:"):
            raise InvalidHold(f"Cannot force-pause entry {entry_id}: {ref} is not a run, and only runs are held.")
        holds.lock([ref])
        if not PauseQueueEntry.objects.waiting().filter(pk=entry_id).exists():
            return False
        holds.place([ref], actor=actor, reason=reason)
        return True
