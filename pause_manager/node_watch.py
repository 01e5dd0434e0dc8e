"""What a node's sampling worker does with each sample: consume or not, ask loops to give way, stand in for beat."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from django.db import connection, transaction

from pause_manager import audit, capacity, conf, loads, manager, nodes, notice
from pause_manager.actor import Actor
from pause_manager.needs import Needs
from pause_manager.signals import yield_wanted
from pause_manager.views import NodeView

logger = logging.getLogger("pause_manager.node_watch")


class NodeWatch:
    """Judges one node over time. ``consumes`` says whether its workers are to take messages."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._actor = Actor("capacity", "policy")
        self._with_loads = capacity.NodeState()
        self._strangers = capacity.NodeState()
        """The same without our loads: a node that is full of our own work goes on taking messages; claims refuse."""

    def seen(self, view: NodeView, kinds: Sequence[Needs] = (Needs(),)) -> bool:
        """Act on one more sample; returns whether the node's workers are to consume."""
        policy = conf.settings().policy_of()
        now = manager.database_now()
        view = replace(view, loads=tuple(loads.by_node(self.node).get(self.node, ())))
        before = self._strangers
        self._strangers, alone = capacity.judge(replace(view, loads=()), self._strangers, policy, now, kinds)
        self._with_loads, judgement = capacity.judge(view, self._with_loads, policy, now, kinds)
        state = replace(self._with_loads, is_saturated=self._strangers.is_saturated)
        nodes.keep_state(self.node, state)
        if before.is_saturated != self._strangers.is_saturated:
            action = "node_saturated" if self._strangers.is_saturated else "node_has_room"
            self._record(action, alone)
        if judgement.yields:
            self._ask_to_yield(judgement)
        return not self._strangers.is_saturated

    def _ask_to_yield(self, judgement: capacity.Judgement) -> None:
        with transaction.atomic():
            yield_wanted.send(
                NodeWatch, refs=judgement.yields, reason=judgement.sentence, figures=judgement.figures
            )
            self._record("yield_wanted", judgement)
            notice.publish_on_commit(f"node:{self.node}")

    def _record(self, action: str, judgement: capacity.Judgement) -> None:
        audit.record(
            action,
            scope=f"node:{self.node}",
            actor=self._actor,
            reason=judgement.sentence,
            figures=judgement.figures,
        )


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
