"""What a node's sampling worker does with each sample: consume or not, ask loops to give way, stand in for beat."""

from __future__ import annotations

import logging
from dataclasses import replace

from django.db import connection, transaction

from pause_manager import audit, capacity, conf, loads, manager, nodes, notice
from pause_manager.consumption import consumption
from pause_manager.pause_queue import CAPACITY
from pause_manager.signals import yield_wanted
from pause_manager.views import NodeView

logger = logging.getLogger("pause_manager.node_watch")


class NodeWatch:
    """Judges one node over time, in each of its worker processes. One of them, which samples, speaks for the node."""

    def __init__(self) -> None:
        self._with_loads = capacity.NodeState()
        self._strangers = capacity.NodeState()
        """The same without our loads: a node that is full of our own work goes on taking messages; claims refuse."""
        self._kept: capacity.NodeState | None = None
        self._took_work: bool | None = None

    def __call__(self, view: NodeView, speaks: bool) -> None:
        """Act on one more sample."""
        policy = conf.settings().policy_of()
        was_saturated = self._strangers.is_saturated
        self._strangers, alone = capacity.judge(view, self._strangers, policy, view.sampled_at)
        takes_work = not self._strangers.is_saturated and not nodes.held([view.name])
        if takes_work:
            consumption.start()
        else:
            consumption.stop()
        if not speaks:
            return
        if takes_work != self._took_work:
            nodes.set_consuming(view.name, takes_work)
            self._took_work = takes_work
        if was_saturated != self._strangers.is_saturated:
            self._record("node_saturated" if self._strangers.is_saturated else "node_has_room", view.name, alone)
        carried = tuple(loads.by_node(view.name).get(view.name, ()))
        self._with_loads, judgement = capacity.judge(
            replace(view, loads=carried), self._with_loads, policy, view.sampled_at
        )
        self._keep(view.name)
        if judgement.yields:
            self._ask_to_yield(view.name, judgement)
        poll_if_beat_is_dead()

    def _keep(self, node: str) -> None:
        state = capacity.NodeState(
            is_saturated=self._strangers.is_saturated,
            contended_at=self._with_loads.contended_at,
            cooldown_until=self._with_loads.cooldown_until,
        )
        if state != self._kept:
            nodes.keep_watch(node, state)
            self._kept = state

    def _ask_to_yield(self, node: str, judgement: capacity.Judgement) -> None:
        with transaction.atomic():
            yield_wanted.send(NodeWatch, refs=judgement.yields, reason=judgement.sentence, figures=judgement.figures)
            self._record("yield_wanted", node, judgement)
            notice.publish_on_commit(f"node:{node}")

    def _record(self, action: str, node: str, judgement: capacity.Judgement) -> None:
        audit.record(action, scope=f"node:{node}", actor=CAPACITY, reason=judgement.sentence, figures=judgement.figures)


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
