"""Admission of new work: against one snapshot of the fleet, with reservations as they are granted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from django.db import connection

from pause_manager import capacity, conf, nodes, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation, NodeView
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import serving, watching, worker_groups
from pause_manager.nodes.machines import identity
from pause_manager.observability import gate_health, metrics
from pause_manager.pause_queue import heads
from pause_manager.pause_queue.heads import Kind
from pause_manager.pause_queue.ramp import Ramp
from pause_manager.probes import processes
from pause_manager.probes.sample import Sample
from pause_manager.slots import gpus
from pause_manager.workloads import WorkKind

logger = logging.getLogger("pause_manager.pause_queue.admission")

QUEUED_BEHIND = "Queued behind work that needs no more resources and is at least as urgent."


DECISIONS = metrics.counter(
    "slackwater_capacity_decisions_total",
    "Decisions on work that asked for capacity, by code: granted, or why not.",
    ("code",),
)


@dataclass(frozen=True)
class FleetSnapshot:
    """The fleet at one moment, by the database's clock."""

    views: list[NodeView]
    """Every node with its workers and loads. One that is held takes no work, like one that is offline."""
    unplaced: list[Allocation]
    """What is sent and not placed."""
    states: dict[str, capacity.NodeState]
    """What is remembered of the nodes: saturation, cooldown, how far the use of other processes swung."""
    now: float
    watch: watching.Watch = field(default_factory=watching.Watch)

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
        policy = self._fleet.watch.policy_of(pipeline)
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
        return must_queue(rivals, needs, priority, policy_of=self._fleet.watch.policy_of, pipeline=pipeline)

    def reserve(self, needs: Needs, wanted: int, *, pipeline: str = "", queue: str = "") -> int:
        """Reserve room for as many of ``wanted`` pieces as fit; returns how many."""
        policy = self._fleet.watch.policy_of(pipeline)
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
                f"{', '.join(closed[:3])} must stay {policy.resume_above:.0%} free"
                f" for {policy.resume_dwell_seconds:g} s first"
            )
        barred = self._ramp.barred(needs, self._fleet.now)
        if kept := [
            f"{view.name} is kept free for {self._ramp.kept[view.name].needs}" for view in online if view.name in barred
        ]:
            found.append(", ".join(kept[:3]))
        states = self._fleet.states
        margins = [states[view.name].margin_text(view, policy) for view in online if view.name in states]
        if swung := [margin for margin in margins if margin]:
            found.append(f"{', '.join(swung[:3])} are reserved for other processes that recently used more")
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


def must_queue(
    waiting: Sequence[Kind],
    needs: Needs,
    priority: int,
    *,
    policy_of: Callable[[str], capacity.Policy],
    pipeline: str = "",
) -> bool:
    """Whether newcomers must queue: something that waits is no larger and no less urgent.

    What waits by a policy that keeps more free than theirs is not in their way.
    """
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
    watch = watching.read()
    if not watch.is_watched:
        return None
    return AdmissionController(take_snapshot(seen, watch), Ramp.stored(), level)


def take_snapshot(seen: Sequence[nodes.KnownNode] | None = None, watch: watching.Watch | None = None) -> FleetSnapshot:
    """The fleet as it is now, in a constant number of queries.

    A caller that holds locks gives what ``nodes.states`` has ``seen`` before: it asks Redis, which may hang. ``watch``
    spares a statement.
    """
    by_node = workloads.allocations_by_node()
    held = nodes.held()
    found = nodes.states() if seen is None else seen
    views = [
        replace(view, is_online=view.is_online and view.name not in held).carrying(by_node.get(view.name, ()))
        for view in worker_groups.with_workers(state.view for state in found)
    ]
    states = {state.row.name: state.watch.state for state in found if state.row.policy_state}
    return FleetSnapshot(views, by_node.get(None, []), states, database_seconds(), watch or watching.read())


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
    before: it queues behind what waits. ``sample`` is what ``nodes.latest`` gave before the transaction; a caller that
    admits to this machine needs none. Of this machine those GPUs count that this process may use, and with
    ``among`` only those: a loop stays on the cards that it has. What cannot be judged admits nothing: the error is
    raised.

    A node that is saturated or kept free for large work admits nothing else, and what other processes lately used more
    stays free. ``goes_on`` says of a loop that it has just ended a slice there: it is not new, and only what is kept
    free concerns it. Of what ``was_parked`` (asked if need be) a node that cools down takes none.
    """
    with gate_health.counted("capacity"):
        watch = watching.read()
        if not watch.is_watched:
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
        now, policy = at or database_seconds(), watch.policy_of(pipeline)
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
            if must_queue(ahead, needs, newcomer, policy_of=watch.policy_of, pipeline=pipeline):
                logger.info("No turn for a newcomer: %s", QUEUED_BEHIND)
                return QUEUED_BEHIND
        return admission.gpus


def _from_here(view: NodeView, needs: Needs, among: Collection[str] | None) -> NodeView:
    """This machine as this worker has it: with its container's limits, and the cards that it may use."""
    view = capacity.within(view, processes.container())
    return gpus.usable(view, among) if needs.gpus else view


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
