"""One look through the pause queue: what continues, what is remembered for the next one, and why the rest waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from pause_manager import capacity, conf, database, nodes
from pause_manager.actor import CAPACITY
from pause_manager.capacity.needs import Needs
from pause_manager.database import advisory_locks
from pause_manager.models import Hold, PauseQueueEntry, PollState
from pause_manager.nodes import watching
from pause_manager.observability import metrics
from pause_manager.pause_queue import consolidation, delivery, heads
from pause_manager.pause_queue.admission import FleetSnapshot, take_snapshot
from pause_manager.pause_queue.heads import Entry
from pause_manager.pause_queue.ramp import Ramp

logger = logging.getLogger("pause_manager.pause_queue.poller")

POLLING = metrics.histogram("slackwater_poll_duration_seconds", "How long one poll of the pause queue took.")
POLL_FAILURES = metrics.counter("slackwater_poll_failures_total", "Polls of the pause queue that failed.")

MOST_TOLD = 200
"""Of at most this many kinds of what waits it is kept why they do; of the others it is known why they were parked."""
AT_ONCE = 4_096
"""The most entries that a poll sends on while capacity is not watched."""

Plan = Sequence[tuple[capacity.Waiting, capacity.Placement]]


@dataclass(frozen=True)
class Poll:
    """What one poll did: entries sent on, entries that wait on, and why it did nothing, if so."""

    sent: int = 0
    waiting: int = 0
    skipped: str = ""


BACK_OFF_SECONDS = 30
_failed_at: float | None = None


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
            if not advisory_locks.lock_poll():
                return Poll(skipped="another poll is in progress")
            with POLLING.timed():
                done = poll_once(nodes.still_called_so(seen))
        _failed_at = None
        return done
    except Exception as error:
        POLL_FAILURES.add()
        if database.is_away(error):
            database.log_outage(error, "the poll of the pause queue")
            database.close()
            return Poll(skipped="the database is away")
        logger.exception("The poll failed; the next one is in %d seconds.", BACK_OFF_SECONDS)
        _failed_at = time.monotonic()
        return Poll(skipped="it failed")


def poll_once(seen: Sequence[nodes.KnownNode]) -> Poll:
    """Poll once, in the caller's transaction, which has :func:`pause_queue.lock_poll`."""
    state, _ = PollState.objects.get_or_create(pk=1)
    if Hold.objects.covering(["fleet"]).exists():
        # Nothing could continue: what waits keeps its place, and it is told why by the hold.
        before = Ramp.of_dict(state.ramp)
        _remember(replace(before, allowance=1, sent=()), [])
        return Poll(0, PauseQueueEntry.objects.waiting().count(), "the fleet is held")
    watch = watching.read()
    return _poll(Ramp.of_dict(state.ramp).backed_off(), seen, watch) if watch.is_watched else _let_all_go()


def _poll(ramp: Ramp, seen: Sequence[nodes.KnownNode], watch: watching.Watch) -> Poll:
    policy_of = watch.policy_of
    policy = policy_of()
    entries = heads.foremost(ramp.allowance, policy.ageing_seconds)
    policies = {entry.pipeline: policy_of(entry.pipeline) for entry in entries}
    waiting = [
        capacity.Waiting(
            str(entry.pk),
            entry.needs,
            entry.paused_at,
            entry.priority,
            policy=policies[entry.pipeline],
            queue=entry.queue,
        )
        for entry in entries
    ]
    fleet = take_snapshot(seen, watch)
    ledger = fleet.reserve_unplaced(capacity.resuming_ledger(fleet.views, policy, fleet.now, fleet.states))
    plan, after = capacity.plan_resume(
        waiting, fleet.views, policy, ramp.state, fleet.now, states=fleet.states, ledger=ledger
    )
    found, after = consolidation.consolidate(after, fleet, ledger, policy)
    until = fleet.now + 2 * conf.settings().poll_interval_seconds
    placed = {placement.node: entry.needs for entry, placement in plan}
    ids = [int(entry.ref) for entry, _ in plan]
    left = ramp.after(after, placed, ids, until)
    _remember(left, _told(entries, ids, fleet, ledger, left))
    sent = 0
    if plan:
        figures = {int(entry.ref): _figures(entry, placement, policy, ramp) for entry, placement in plan}
        sent = delivery.send_on(ids, actor=CAPACITY, reason=_why(plan), details=figures)
    consolidation.carry_out(found)
    waits = PauseQueueEntry.objects.waiting().count()
    if sent or waits:
        told = capacity.should_pause(fleet.views, Needs(), policy, fleet.now, headrooms=fleet.headrooms).figures
        logger.info("Poll: %d entries continue, %d wait; allowance %d, %s", sent, waits, ramp.allowance, told)
    return Poll(sent, waits)


def _let_all_go() -> Poll:
    """Send on what only capacity keeps: nobody asks for room."""
    _remember(Ramp(), [])
    entries = heads.foremost(AT_ONCE, conf.settings().policy_of().ageing_seconds)
    ids = [entry.pk for entry in sorted(entries, key=lambda entry: (entry.priority, entry.paused_at, entry.pk))]
    sent = delivery.send_on(ids[:AT_ONCE], actor=CAPACITY, reason="capacity is not watched") if ids else 0
    return Poll(sent, PauseQueueEntry.objects.waiting().count())


def _remember(ramp: Ramp, told: list[dict[str, Any]]) -> None:
    PollState.objects.filter(pk=1).update(polled_at=Now(), ramp=ramp.as_dict(), told=told)


def rename_machine(old: str, new: str) -> None:
    """Write the new name of a machine where the state has the old one. No poll runs meanwhile."""
    for ramp in PollState.objects.values_list("ramp", flat=True):
        PollState.objects.filter(pk=1).update(ramp=Ramp.of_dict(ramp).renamed(old, new).as_dict())


def _told(
    entries: Sequence[Entry], sent: Sequence[int], fleet: FleetSnapshot, ledger: capacity.ReservationLedger, ramp: Ramp
) -> list[dict[str, Any]]:
    """Why each kind of what waits does so; of a kind of which some continued: what the next ones wait for."""
    kinds = dict.fromkeys((entry.queue, entry.pipeline, entry.needs) for entry in entries)
    kept_for = {name: one.needs for name, one in ramp.kept.items()}
    told = []
    for queue, pipeline, needs in list(kinds)[:MOST_TOLD]:
        policy = fleet.watch.policy_of(pipeline)
        verdict = capacity.outlook(
            fleet.views,
            needs,
            policy,
            fleet.now,
            fleet.states,
            ledger=ledger,
            kept_for=kept_for,
            queue=queue,
            headrooms=fleet.headrooms,
        )
        making = consolidation.outlook(ramp.making, needs, queue, ledger.views, fleet.now)
        code, sentence = making or (verdict.code, verdict.sentence)
        kind = {"queue": queue, "pipeline": pipeline, "needs": asdict(needs)}
        told.append({**kind, "code": code, "sentence": sentence})
    return told


def _figures(
    entry: capacity.Waiting, placement: capacity.Placement, policy: capacity.Policy, ramp: Ramp
) -> dict[str, Any]:
    return {
        "node": placement.node,
        "free_share": round(placement.share, 4),
        "resume_above": (entry.policy or policy).resume_above,
        "allowance": ramp.allowance,
    }


def _why(plan: Plan) -> str:
    freest = max((placement for _, placement in plan), key=lambda placement: placement.share)
    return f"capacity is back: {freest.node} has {freest.share:.0%} free"
