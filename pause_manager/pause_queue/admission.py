"""Admission of new work: against one snapshot of the fleet, with reservations as they are granted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pause_manager import capacity, conf, nodes, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation, NodeView
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import watching, worker_groups
from pause_manager.pause_queue import heads
from pause_manager.pause_queue.heads import Kind
from pause_manager.pause_queue.ramp import Ramp

logger = logging.getLogger("pause_manager.pause_queue.admission")

QUEUED_BEHIND = "Queued behind work that needs no more resources and is at least as urgent."


@dataclass(frozen=True)
class FleetSnapshot:
    """The fleet at one moment, by the database's clock."""

    views: list[NodeView]
    """Every node with its workers and loads. One that is held takes no work, like one that is offline."""
    unplaced: list[Allocation]
    """What is sent and not placed."""
    states: dict[str, capacity.NodeState]
    """What is remembered of the nodes: saturation, cooldown, how far strangers swung."""
    now: float

    @cached_property
    def headrooms(self) -> capacity.Headrooms:
        """What is left of the nodes, before anything is reserved."""
        return capacity.Headrooms(self.now)

    def reserve_unplaced(self, ledger: capacity.ReservationLedger) -> capacity.ReservationLedger:
        """Give what is on its way its room: it was admitted once, so no threshold is asked again."""
        anywhere = replace(conf.settings().policy_of(), pause_below=0.0, resume_above=0.0)
        for allocation in self.unplaced:
            ledger.place(allocation.needs, policy=anywhere, queue=allocation.queue)
        return ledger


class AdmissionController:
    """A fleet with reservations made as admissions are granted."""

    def __init__(self, fleet: FleetSnapshot, ramp: Ramp, level: int = logging.INFO) -> None:
        self._fleet = fleet
        self._ramp = ramp
        self._level = level
        self._verdicts: dict[tuple[Needs, capacity.Policy, str], capacity.Verdict] = {}

    def should_pause(self, needs: Needs, *, pipeline: str = "", queue: str = "") -> capacity.Verdict:
        """The policy's verdict on new work with ``needs``; logged with its figures. What is reserved is not counted."""
        policy = conf.settings().policy_of(pipeline)
        verdict = self._verdicts.get((needs, policy, queue))
        if verdict is None:
            fleet = self._fleet
            verdict = capacity.should_pause(fleet.views, needs, policy, fleet.now, queue, fleet.headrooms)
            verdict = _with_holds(verdict)
            self._verdicts[needs, policy, queue] = verdict
            word = "pause" if verdict.should_pause else "go"
            logger.log(self._level, "Verdict %s (%s): %s %s", word, verdict.code, verdict.sentence, verdict.figures)
        return verdict

    def must_queue(self, needs: Needs, priority: int, *, pipeline: str = "", queue: str = "") -> bool:
        """:func:`must_queue` by what waited when first asked, for nodes that newcomers of ``queue`` may go to."""
        online = [view for view in self._fleet.views if view.is_online and view.serves(queue)]
        rivals = [
            kind
            for kind in self._queue_heads
            if any(capacity.can_ever_run(view, kind.needs, kind.queue) for view in online)
        ]
        return must_queue(rivals, needs, priority, pipeline=pipeline)

    def reserve(self, needs: Needs, wanted: int, *, pipeline: str = "", queue: str = "") -> int:
        """Reserve room for as many of ``wanted`` pieces as fit; returns how many."""
        policy = conf.settings().policy_of(pipeline)
        barred = self._ramp.barred(needs, self._fleet.now)
        for count in range(wanted):
            if self._book.place(needs, barred, policy, queue) is None:
                return count
        return wanted

    def reserved_text(self, needs: Needs) -> str:
        """In brackets, what of online nodes new work may not have for a while, and why; empty if it may have all."""
        policy, online = conf.settings().policy_of(), [view for view in self._fleet.views if view.is_online]
        found = []
        if closed := [view.name for view in online if self._is_saturated(view.name)]:
            found.append(
                f"{', '.join(closed[:3])} must first have had {policy.resume_above:.0%} free"
                f" for {policy.resume_dwell_seconds:g} s"
            )
        barred = self._ramp.barred(needs, self._fleet.now)
        if kept := [
            f"{view.name} is kept free for {self._ramp.kept[view.name].needs}" for view in online if view.name in barred
        ]:
            found.append(", ".join(kept[:3]))
        states = self._fleet.states
        margins = [states[view.name].margin_text(view, policy) for view in online if view.name in states]
        if swung := [margin for margin in margins if margin]:
            found.append(f"strangers, who lately used more, are left {', '.join(swung[:3])}")
        return f" ({'; '.join(found)})" if found else ""

    def _is_saturated(self, node: str) -> bool:
        return node in self._fleet.states and self._fleet.states[node].is_saturated

    @cached_property
    def _book(self) -> capacity.ReservationLedger:
        fleet = self._fleet
        policy = conf.settings().policy_of()
        return fleet.reserve_unplaced(capacity.admission_ledger(fleet.views, policy, fleet.now, fleet.states))

    @cached_property
    def _queue_heads(self) -> list[Kind]:
        return heads.kinds(conf.settings().policy_of().ageing_seconds)


def must_queue(waiting: Sequence[Kind], needs: Needs, priority: int, *, pipeline: str = "") -> bool:
    """Whether newcomers must queue: something that waits is no larger and no less urgent.

    What waits by a policy that keeps more free than theirs is not in their way.
    """
    policy_of = conf.settings().policy_of
    own = policy_of(pipeline).pause_below
    ahead = ((kind.needs, kind.urgency) for kind in waiting if policy_of(kind.pipeline).pause_below <= own)
    return capacity.goes_behind(ahead, needs, priority)


def _with_holds(verdict: capacity.Verdict) -> capacity.Verdict:
    """The same; if no node is online, with the nodes that only a hold keeps out."""
    if verdict.code != "no_online_node" or not (held := nodes.held()):
        return verdict
    names = ", ".join(sorted(held)[:3])
    return replace(verdict, sentence=f"{verdict.sentence} Held by an operator: {names}.")


def open_admission(
    level: int = logging.INFO, seen: Sequence[nodes.KnownNode] | None = None
) -> AdmissionController | None:
    """A controller over the fleet as it is now; ``None`` when capacity is not watched, so that everything may start.

    Verdicts are logged at ``level``: those that are only shown to somebody need not be. ``seen`` is as in
    :func:`take_snapshot`.
    """
    if not watching.is_watched():
        return None
    return AdmissionController(take_snapshot(seen), Ramp.stored(), level)


def take_snapshot(seen: Sequence[nodes.KnownNode] | None = None) -> FleetSnapshot:
    """The fleet as it is now, in a constant number of queries.

    Whoever holds locks gives what ``nodes.states`` has ``seen`` before: it asks Redis, which may hang.
    """
    by_node = workloads.allocations_by_node()
    held = nodes.held()
    found = nodes.states() if seen is None else seen
    views = [
        replace(view, is_online=view.is_online and view.name not in held).carrying(by_node.get(view.name, ()))
        for view in worker_groups.with_workers(state.view for state in found)
    ]
    states = {state.row.name: state.watch.state for state in found if state.row.policy_state}
    return FleetSnapshot(views, by_node.get(None, []), states, database_seconds())
