"""What a node's sampling worker does with each sample: consume or not, ask loops to give way, stand in for beat."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from django.db import connection, transaction

from pause_manager import capacity, conf, manager, nodes, workloads
from pause_manager.actor import CAPACITY
from pause_manager.capacity.foreign import ForeignPeak
from pause_manager.capacity.snapshot import NodeView
from pause_manager.messaging import notifier
from pause_manager.nodes import threshold, watching
from pause_manager.nodes.machines import identity
from pause_manager.nodes.persisted_state import PersistedNodeState
from pause_manager.observability import audit
from pause_manager.worker.consumption import NODE, consumption

logger = logging.getLogger("pause_manager.worker.node_monitor")


class NodeMonitor:
    """Judges one node over time, in each of its worker processes. One of them, which samples, speaks for the node.

    Who begins to speak takes up what the last speaker has kept in the database.
    """

    def __init__(self) -> None:
        self._with_loads = capacity.NodeState()
        self._strangers = capacity.NodeState()
        """The same without our loads: a node that is full of our own work continues to take messages; claims refuse."""
        self._idle = capacity.Idle()
        self._own_threshold: float | None = None
        self._kept: PersistedNodeState | None = None
        self._adaptation: capacity.Adaptation | None = None
        self._oom_kills: int | None = None
        self._read_due = self._keep_due = 0.0
        self._spoke = False
        self._is_watched = True
        self._node = ""
        self._took_work: bool | None = None
        self._told_saturated = False
        self._forced: frozenset[str] = frozenset()
        """Queues that are served on a saturated node as well."""

    def __call__(self, view: NodeView, speaks: bool) -> None:
        """Act on one more sample."""
        policy = conf.settings().policy_of()
        if view.name != self._node:
            self._node, self._took_work = view.name, None
        self._read(view.name, speaks)
        if not self._is_watched:
            self._stand_aside(view.name, speaks)
            return
        if speaks:
            self._notice_kills(view)
            self._adaptation = threshold.adapted(view.name, self._adaptation, policy)
        view = capacity.with_threshold(view, self._own_threshold, self._adaptation, policy)
        self._strangers, alone = capacity.judge(view, self._strangers, policy, view.sampled_at)
        # Holds stop the queues by themselves, see ``worker.supervisor``.
        if not self._strangers.is_saturated:
            consumption.start()
        else:
            consumption.stop_exactly(consumption.queues - self._forced if self._forced else None, reason=NODE)
        if not speaks:
            self._told_saturated = self._strangers.is_saturated
            return
        takes_work = not self._strangers.is_saturated and nodes.held_because(view.name) is None
        if takes_work != self._took_work:
            nodes.set_consuming(view.name, takes_work)
            self._took_work = takes_work
        if self._told_saturated != self._strangers.is_saturated:
            self._record("node_saturated" if self._strangers.is_saturated else "node_has_room", view.name, alone)
            self._told_saturated = self._strangers.is_saturated
        carried = workloads.allocations_by_node(view.name).get(view.name, ())
        if identity.name() != view.name:
            return  # Renamed since it was sampled: what it carries is known under the new name.
        loaded = view.carrying(carried)
        self._idle = self._idle.seen(loaded)
        self._with_loads, judgement = capacity.judge(loaded, self._with_loads, policy, view.sampled_at)
        self._keep(view.name)
        if judgement.yields:
            self._ask_to_yield(view.name, judgement)
        poll_if_beat_is_dead()

    def with_idle(self, view: NodeView) -> NodeView:
        """``view``, which is about to be told, with what our processes occupied when idle as of the sample before."""
        return self._idle.told(view) if self._spoke else view

    def _stand_aside(self, node: str, speaks: bool) -> None:
        """Capacity is not watched: nothing is kept from starting, and nothing is remembered."""
        consumption.start()
        self._strangers = self._with_loads = capacity.NodeState()
        self._idle = capacity.Idle()
        self._told_saturated = False
        if speaks:
            takes_work = nodes.held_because(node) is None
            if takes_work != self._took_work:
                nodes.set_consuming(node, takes_work)
                self._took_work = takes_work
            self._keep(node)
            poll_if_beat_is_dead()

    def _read(self, node: str, speaks: bool) -> None:
        """The node's thresholds, every few seconds; and all that was kept of it, when this process begins to speak."""
        begins, self._spoke = speaks and not self._spoke, speaks
        if not begins and time.monotonic() < self._read_due:
            return
        self._read_due = time.monotonic() + conf.settings().save_node_seconds
        self._own_threshold, kept = nodes.saved_state(node)
        self._is_watched = watching.is_watched()
        self._forced = workloads.override_queues() if self._strangers.is_saturated else frozenset()
        if begins or not speaks:
            self._adaptation = kept.adaptation
        if begins:
            # What the sample says is judged again; what only time can tell is taken up.
            self._with_loads = replace(kept.state, is_saturated=False)
            self._idle = kept.idle
            self._oom_kills = kept.oom_kills
            self._kept = None

    def _notice_kills(self, view: NodeView) -> None:
        before, self._oom_kills = self._oom_kills, view.oom_kills
        if before is not None and view.oom_kills > before:
            killed = view.oom_kills - before
            what = "a process" if killed == 1 else f"{killed} processes"
            threshold.note_out_of_memory(
                view.name,
                reason=f"The kernel killed {what} of the workers' control group for want of memory.",
                details={"killed": killed, "free_memory_mib": view.free_memory_mib, "memory_mib": view.memory_mib},
            )

    def _keep(self, node: str) -> None:
        """Keep what has changed; the peak of foreign use, which moves with many samples, every few seconds."""
        state, foreign_peak = self._with_loads, self._with_loads.foreign_peak
        kept = PersistedNodeState(
            capacity.NodeState(
                is_saturated=self._strangers.is_saturated,
                contended_at=state.contended_at,
                cooldown=state.cooldown,
                cooldown_until=state.cooldown_until,
                foreign_peak=ForeignPeak(foreign_peak.since, foreign_peak.before, foreign_peak.latest),
            ),
            self._adaptation,
            self._idle.lasting,
            self._oom_kills,
        )
        if kept == self._kept or (kept.differs_in_memory_only(self._kept) and time.monotonic() < self._keep_due):
            return
        if nodes.save_state(node, kept):
            self._kept = kept
            self._keep_due = time.monotonic() + conf.settings().save_node_seconds

    def _ask_to_yield(self, node: str, judgement: capacity.Judgement) -> None:
        with transaction.atomic():
            workloads.give_way(judgement.yields, judgement.sentence)
            self._record("yield_wanted", node, judgement)
            notifier.changed(f"node:{node}")

    def _record(self, action: str, node: str, judgement: capacity.Judgement) -> None:
        audit.record(action, scope=f"node:{node}", actor=CAPACITY, reason=judgement.sentence, details=judgement.figures)


def poll_if_beat_is_dead() -> None:
    """Poll in beat's stead when the last poll is three intervals old (by the database's clock)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT polled_at < statement_timestamp() - make_interval(secs => %s) "
            "FROM pause_manager_pollstate WHERE id = 1), true)",
            [3 * conf.settings().poll_interval_seconds],
        )
        is_late = cursor.fetchone()[0]
    if is_late:
        manager.poll()
