"""PauseManager: may this work start, what waits, what goes on. The thin shell round the pure policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import capacity, conf, database, gpus, holds, layers, loads, metrics, nodes, pause_queue
from pause_manager.actor import Actor
from pause_manager.clock import database_seconds
from pause_manager.desk import ITS_TURN, front, goes_behind, look, needs_of, open_desk
from pause_manager.errors import InvalidHold
from pause_manager.models import Hold, PauseQueueEntry, PollState
from pause_manager.needs import Needs
from pause_manager.pause_queue import CAPACITY, Parked
from pause_manager.probes.processes import node_name
from pause_manager.samples import Sample
from pause_manager.signals import forced_on, hold_changing
from pause_manager.views import NodeView

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


@dataclass(frozen=True)
class Poll:
    """What one poll did: entries sent on, entries that wait on, and why it did nothing, if so."""

    sent: int = 0
    waiting: int = 0
    skipped: str = ""


def is_watched() -> bool:
    """Whether room is asked for before work starts."""
    return conf.settings().capacity


def should_pause(needs: Needs, *, pipeline: str = "") -> capacity.Verdict:
    """Whether new work with ``needs`` must wait, and why. An error while looking means that it must (P-10)."""
    return judge()(needs, pipeline)


def judge(level: int = logging.INFO) -> Callable[[Needs, str], capacity.Verdict]:
    """``should_pause`` for many (needs, pipeline), all from one look at the fleet; logged at ``level``."""
    try:
        desk = open_desk(level)
    except Exception as error:
        problem = _unreadable(error)
        return lambda needs, pipeline: problem

    def verdict(needs: Needs, pipeline: str) -> capacity.Verdict:
        if desk is None:
            return capacity.Verdict(False, "not_watched", "Capacity is not watched.")
        try:
            return desk.should_pause(needs, pipeline=pipeline)
        except Exception as error:
            return _unreadable(error)

    return verdict


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
) -> tuple[str, ...] | str:
    """The ids of the GPUs for work with ``needs`` that starts on ``node`` now, or the sentence that says what is short.

    Locks the node's row until the caller's transaction ends, so that admissions to one node take turns and each sees
    the leases of those before it. ``told`` is what a machine without workers of ours says of itself: it is believed,
    and a lock on its name takes the place of the row. ``newcomer`` is the priority of work that nobody has admitted
    before: it queues behind what waits. ``sample`` is what ``nodes.latest`` gave before the transaction; whoever admits
    to this machine needs none. Of this machine those GPUs count that this process may use, and with ``among`` only
    those: a loop stays on the cards that it has. What cannot be judged admits nothing: the error is raised.
    """
    if not conf.settings().capacity:
        return ()
    with layers.telling("capacity"):
        return _admit_on(node, needs, pipeline, told, newcomer, sample, among)


def _admit_on(
    node: str,
    needs: Needs,
    pipeline: str,
    told: NodeView | None,
    newcomer: int | None,
    sample: Sample | None,
    among: Collection[str] | None,
) -> tuple[str, ...] | str:
    if told is not None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"slackwater node {node}"])
    known, now = nodes.lock(node, sample)
    view = known or told
    if view is None:
        return f"{node} has no fresh sample."
    mine = loads.by_node(node).get(node, ())
    view = view.carrying(load for load in mine if not load.is_sent)
    if needs.gpus and node == node_name():
        view = gpus.offered(view, among)
    policy = conf.settings().policy_of(pipeline)
    now = now or database_seconds()
    placement = capacity.place([view], needs, policy, now)
    if placement is not None and newcomer is not None and goes_behind(front(), needs, newcomer, pipeline=pipeline):
        logger.info("No turn for a newcomer: %s", ITS_TURN)
        return ITS_TURN
    if placement is not None:
        return placement.gpus
    verdict = capacity.should_pause([view], needs, policy, now)
    sentence = verdict.sentence if verdict.should_pause else f"{node} has not enough left: {needs} are needed."
    logger.info("No room for a loop: %s %s", sentence, verdict.figures)
    return sentence


def pause_work(items: Sequence[Parked], *, reason: str, figures: dict[str, Any] | None = None) -> int:
    """Withhold the dispatches: an entry each, and a capacity hold on those that are runs. Returns how many wait."""
    return pause_queue.park(items, reason=reason, figures=figures or {})


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
                done = _poll(seen)
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


def _poll(seen: Sequence[nodes.NodeState]) -> Poll:
    state, _ = PollState.objects.get_or_create(pk=1)
    policy = conf.settings().policy_of()
    is_fleet_held = Hold.objects.covering(["fleet"]).exists()
    ramp = capacity.RampState(
        state.ramp.get("allowance", 1), state.ramp.get("polled_at", 0.0), tuple(state.ramp.get("held", ()))
    )
    # While the fleet is held nothing could go on: what waits keeps its place.
    waiting = [] if is_fleet_held else _foremost(ramp.allowance, policy)
    fleet = look(seen)
    views, now = fleet.views, fleet.now
    book = fleet.reserve_unplaced(capacity.resuming_book(views, policy, now, fleet.states))
    plan, after = capacity.plan_resume(waiting, views, policy, ramp, now, states=fleet.states, book=book)
    PollState.objects.filter(pk=1).update(
        polled_at=Now(),
        ramp={"allowance": after.allowance, "polled_at": after.polled_at, "held": list(after.held)},
    )
    sent = 0
    if plan:
        placed = {
            int(entry.ref): {
                "node": placement.node,
                "free_share": round(placement.share, 4),
                "resume_above": (entry.policy or policy).resume_above,
                "allowance": ramp.allowance,
            }
            for entry, placement in plan
        }
        sent = pause_queue.send_on(list(placed), actor=CAPACITY, reason=_why(plan), figures=placed)
    left = PauseQueueEntry.objects.waiting().count()
    if sent or left:
        figures = capacity.should_pause(views, Needs(), policy, now).figures
        logger.info("Poll: %d entries go on, %d wait; allowance %d, %s", sent, left, ramp.allowance, figures)
    return Poll(sent, left, skipped="the fleet is held" if is_fleet_held else "")


def _foremost(count: int, policy: capacity.Policy) -> list[capacity.Waiting]:
    foremost = PauseQueueEntry.objects.due().foremost(count, policy.ageing_seconds)
    entries = foremost.values_list("pk", "needs", "paused_at", "priority", "pipeline")
    policy_of = conf.settings().policy_of
    policies = {pipeline: policy_of(pipeline) for *_, pipeline in entries}
    return [
        capacity.Waiting(str(pk), needs_of(needs), paused_at.timestamp(), priority, policy=policies[pipeline])
        for pk, needs, paused_at, priority, pipeline in entries
    ]


def _why(plan: Sequence[tuple[capacity.Waiting, capacity.Placement]]) -> str:
    freest = max((placement for _, placement in plan), key=lambda placement: placement.share)
    return f"capacity is back: {freest.node} has {freest.share:.0%} free"


def force_resume(entry_id: int, *, actor: Actor, reason: str = "") -> bool:
    """Send one entry on whatever the capacity says; False if it does not wait any more."""
    with transaction.atomic():
        entry = PauseQueueEntry.objects.waiting().filter(pk=entry_id)
        ref = entry.values_list("ref", flat=True).first()
        if ref is None:
            return False
        hold_changing.send(Hold, scopes=[ref])
        if not entry.exists():
            return False
        forced_on.send(PauseQueueEntry, refs=[ref])
        figures = {entry_id: {"forced": True}}
        return bool(pause_queue.send_on([entry_id], actor=actor, reason=reason or "forced", figures=figures))


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
        hold_changing.send(Hold, scopes=[ref])
        if not PauseQueueEntry.objects.waiting().filter(pk=entry_id).exists():
            return False
        holds.place([ref], actor=actor, reason=reason)
        return True
