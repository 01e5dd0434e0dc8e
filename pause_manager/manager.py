"""PauseManager: may this work start, what waits, what goes on. The thin shell round the pure policy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import capacity, conf, loads, nodes, pause_queue
from pause_manager.actor import Actor
from pause_manager.models import PauseQueueEntry, PollState, WorkerNode
from pause_manager.needs import Needs
from pause_manager.pause_queue import CAPACITY, Parked
from pause_manager.signals import forced_on
from pause_manager.views import NodeView

logger = logging.getLogger("pause_manager.manager")


@dataclass(frozen=True)
class Poll:
    """What one poll did: entries sent on, entries that wait on, and why it did nothing, if so."""

    sent: int = 0
    waiting: int = 0
    skipped: str = ""


class Desk:
    """The fleet at one moment, with reservations made as admissions are granted."""

    def __init__(self, views: Sequence[NodeView], unplaced: Sequence[Needs], held: Sequence[str], now: float) -> None:
        self._views = views
        self._held = held
        self._now = now
        self._books: dict[capacity.Policy, capacity.Book] = {}
        self._unplaced = unplaced

    def should_pause(self, needs: Needs, *, pipeline: str = "") -> capacity.Verdict:
        """The policy's verdict on new work with ``needs``; logged with its figures."""
        verdict = capacity.should_pause(self._views, needs, conf.settings().policy_of(pipeline), self._now)
        logger.log(logging.INFO if verdict.should_pause else logging.DEBUG, "%s %s", verdict.sentence, verdict.figures)
        return verdict

    def reserve(self, needs: Needs, wanted: int, *, pipeline: str = "") -> int:
        """Reserve room for as many of ``wanted`` pieces as fit; returns how many."""
        book = self._book(conf.settings().policy_of(pipeline))
        for count in range(wanted):
            if book.place(needs, self._held) is None:
                return count
        return wanted

    def _book(self, policy: capacity.Policy) -> capacity.Book:
        if policy not in self._books:
            book = self._books[policy] = capacity.Book(self._views, policy, self._now)
            for needs in self._unplaced:
                book.place(needs)
        return self._books[policy]


def open_desk() -> Desk | None:
    """Look at the fleet; ``None`` when capacity is not watched, so that everything may start."""
    if not conf.settings().capacity:
        return None
    views, unplaced, now = look()
    ramp = PollState.objects.values_list("ramp", flat=True).first() or {}
    return Desk(views, unplaced, ramp.get("held", []), now)


def look() -> tuple[list[NodeView], list[Needs], float]:
    """Every node with the loads it carries, what is sent and not placed, and the database's time."""
    by_node = loads.by_node()
    views = [replace(view, loads=tuple(by_node.get(view.name, ()))) for view in nodes.live_nodes()]
    return views, [load.needs for load in by_node.get(None, ())], database_now()


def should_pause(needs: Needs, *, pipeline: str = "") -> capacity.Verdict:
    """Whether new work with ``needs`` must wait, and why. An error while looking means that it must (P-10)."""
    try:
        desk = open_desk()
        if desk is None:
            return capacity.Verdict(False, "not_watched", "Capacity is not watched.")
        return desk.should_pause(needs, pipeline=pipeline)
    except Exception as error:
        logger.exception("Capacity could not be judged.")
        return capacity.Verdict(True, "unreadable", f"Capacity could not be judged: {type(error).__name__}: {error}.")


def admit_on(node: str, needs: Needs, *, pipeline: str = "") -> tuple[int, ...] | str:
    """The GPUs for work with ``needs`` that starts on ``node`` now, or the sentence that says what is short.

    Locks the node's row until the caller's transaction ends, so that admissions to one node take turns and each sees
    the leases of those before it.
    """
    if not conf.settings().capacity:
        return ()
    WorkerNode.objects.select_for_update(no_key=True).filter(name=node).first()
    view = next((view for view in nodes.live_nodes() if view.name == node), None)
    if view is None:
        return f"{node} has no fresh sample."
    mine = loads.by_node(node).get(node, ())
    view = replace(view, loads=tuple(load for load in mine if not load.is_sent))
    policy = conf.settings().policy_of(pipeline)
    now = database_now()
    placement = capacity.place([view], needs, policy, now)
    if placement is not None:
        return placement.gpus
    verdict = capacity.should_pause([view], needs, policy, now)
    return verdict.sentence if verdict.should_pause else f"{node} has not enough left: {needs} are needed."


def pause_work(items: Sequence[Parked], *, reason: str, figures: dict[str, Any] | None = None) -> int:
    """Withhold the dispatches: an entry each, and a capacity hold on those that are runs. Returns how many wait."""
    return pause_queue.park(items, reason=reason, figures=figures or {})


def resume_paused_work() -> int:
    """One poll; returns how many entries were sent on."""
    return poll().sent


def poll() -> Poll:
    """Send on what has room: in order of priority then age, gently, each exactly once. One poll at a time.

    A failure is logged and never reaches the caller.
    """
    try:
        with transaction.atomic():
            if not pause_queue.lock_poll():
                return Poll(skipped="another poll is under way")
            return _poll()
    except Exception:
        # Beat comes again in its interval; a broken database says so in every worker's log already.
        logger.exception("The poll failed; the next one tries again.")
        return Poll(skipped="it failed")


def _poll() -> Poll:
    state, _ = PollState.objects.get_or_create(pk=1)
    waiting = [
        capacity.Waiting(str(pk), _needs(needs), paused_at.timestamp(), priority)
        for pk, needs, paused_at, priority in PauseQueueEntry.objects.due().values_list(
            "pk", "needs", "paused_at", "priority"
        )
    ]
    ramp = capacity.RampState(
        state.ramp.get("allowance", 1), state.ramp.get("polled_at", 0.0), tuple(state.ramp.get("held", ()))
    )
    views, unplaced, now = look()
    policy = conf.settings().policy_of()
    book = capacity.Book(views, policy, now)
    for needs in unplaced:
        book.place(needs)
    plan, after = capacity.plan_resume(waiting, views, policy, ramp, now, states=nodes.watched())
    PollState.objects.filter(pk=1).update(
        polled_at=Now(),
        ramp={"allowance": after.allowance, "polled_at": after.polled_at, "held": list(after.held)},
    )
    for entry, placement in plan:
        pause_queue.send_on(
            [int(entry.ref)],
            actor=CAPACITY,
            reason=f"{placement.node} has {placement.share:.0%} free",
            figures={"node": placement.node, "free_share": round(placement.share, 4), "allowance": ramp.allowance},
        )
    return Poll(sent=len(plan), waiting=len(waiting) - len(plan))


def force_resume(entry_id: int, *, actor: Actor, reason: str = "") -> bool:
    """Send one entry on whatever the capacity says; False if it does not wait any more."""
    with transaction.atomic():
        ref = PauseQueueEntry.objects.waiting().filter(pk=entry_id).values_list("ref", flat=True).first()
        if ref is None:
            return False
        forced_on.send(PauseQueueEntry, refs=[ref])
        return bool(pause_queue.send_on([entry_id], actor=actor, reason=reason or "forced", figures={"forced": True}))


def database_now() -> float:
    """Seconds since the epoch by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float")
        return float(cursor.fetchone()[0])


_known_needs: dict[str, Needs] = {}


def _needs(stored: dict[str, Any]) -> Needs:
    """The needs of an entry; equal ones are one object, which the policy groups by."""
    key = repr(sorted(stored.items()))
    if key not in _known_needs:
        _known_needs[key] = Needs(**stored)
    return _known_needs[key]
