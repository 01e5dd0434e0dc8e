"""The desk that admissions are asked at: one look at the fleet, and reservations as they are granted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pause_manager import acknowledgements, capacity, conf, gpus, loads, nodes
from pause_manager.clock import database_seconds
from pause_manager.models import PauseQueueEntry, PollState
from pause_manager.needs import Needs
from pause_manager.views import NodeView

logger = logging.getLogger("pause_manager.desk")

Front = Sequence[tuple[Needs, float, int]]
"""(needs, pause threshold, highest priority) of each kind of what waits."""
ITS_TURN = "It waits its turn: work that needs no more and is no less urgent waits already."


@dataclass(frozen=True)
class Fleet:
    """The fleet at one moment, by the database's clock."""

    views: list[NodeView]
    """Every node with the loads it carries. One that is held takes no work, like one that is offline."""
    unplaced: list[Needs]
    """What is sent and not placed."""
    states: dict[str, capacity.NodeState]
    """What is remembered of the nodes: saturation, cooldown, how far strangers swung."""
    now: float

    def reserve_unplaced(self, book: capacity.Book) -> capacity.Book:
        """Give what is on its way its room: it was admitted once, so no threshold is asked again."""
        anywhere = replace(conf.settings().policy_of(), pause_below=0.0, resume_above=0.0)
        for needs in self.unplaced:
            book.place(needs, policy=anywhere)
        return book


class Desk:
    """A fleet with reservations made as admissions are granted."""

    def __init__(self, fleet: Fleet, held: Sequence[str], level: int = logging.INFO) -> None:
        self._fleet = fleet
        self._held = held
        self._level = level
        self._verdicts: dict[tuple[Needs, capacity.Policy], capacity.Verdict] = {}

    def should_pause(self, needs: Needs, *, pipeline: str = "") -> capacity.Verdict:
        """The policy's verdict on new work with ``needs``; logged with its figures. What is reserved is not counted."""
        policy = conf.settings().policy_of(pipeline)
        verdict = self._verdicts.get((needs, policy))
        if verdict is None:
            verdict = _told_with_holds(capacity.should_pause(self._fleet.views, needs, policy, self._fleet.now))
            self._verdicts[needs, policy] = verdict
            word = "pause" if verdict.should_pause else "go"
            logger.log(self._level, "Verdict %s (%s): %s %s", word, verdict.code, verdict.sentence, verdict.figures)
        return verdict

    def goes_behind(self, needs: Needs, priority: int, *, pipeline: str = "") -> bool:
        """:func:`goes_behind` by what waited when first asked."""
        return goes_behind(self._front, needs, priority, pipeline=pipeline)

    def reserve(self, needs: Needs, wanted: int, *, pipeline: str = "") -> int:
        """Reserve room for as many of ``wanted`` pieces as fit; returns how many."""
        policy = conf.settings().policy_of(pipeline)
        for count in range(wanted):
            if self._book.place(needs, self._held, policy) is None:
                return count
        return wanted

    @property
    def kept_back(self) -> str:
        """In brackets, what of online nodes new work may not have for a while, and why; empty if it may have all."""
        policy, online = conf.settings().policy_of(), [view for view in self._fleet.views if view.is_online]
        found = []
        if closed := [view.name for view in online if self._is_saturated(view.name)]:
            found.append(
                f"{', '.join(closed[:3])} must first have had {policy.resume_above:.0%} free"
                f" for {policy.resume_dwell_seconds:g} s"
            )
        states = self._fleet.states
        margins = [states[view.name].told_margin(view, policy) for view in online if view.name in states]
        if swung := [margin for margin in margins if margin]:
            found.append(f"strangers, who lately used more, are left {', '.join(swung[:3])}")
        return f" ({'; '.join(found)})" if found else ""

    def _is_saturated(self, node: str) -> bool:
        return node in self._fleet.states and self._fleet.states[node].is_saturated

    @cached_property
    def _book(self) -> capacity.Book:
        fleet = self._fleet
        policy = conf.settings().policy_of()
        return fleet.reserve_unplaced(capacity.admission_book(fleet.views, policy, fleet.now, fleet.states))

    @cached_property
    def _front(self) -> Front:
        return front()


def front() -> Front:
    """What waits and is due."""
    settings = conf.settings()
    found = PauseQueueEntry.objects.due().front(settings.policy_of().ageing_seconds)
    return [
        (needs_of(needs), settings.policy_of(pipeline).pause_below, int(urgency)) for needs, pipeline, urgency in found
    ]


def goes_behind(waiting: Front, needs: Needs, priority: int, *, pipeline: str = "") -> bool:
    """Whether newcomers must queue: something that waits is no larger and no less urgent.

    What waits by a policy that keeps more free than theirs is not in their way.
    """
    own = conf.settings().policy_of(pipeline).pause_below
    ahead = ((other, urgency) for other, pause_below, urgency in waiting if pause_below <= own)
    return capacity.goes_behind(ahead, needs, priority)


def _told_with_holds(verdict: capacity.Verdict) -> capacity.Verdict:
    """The same; if no node is online, with the nodes that only a hold keeps out."""
    if verdict.code != "no_online_node" or not (held := nodes.held()):
        return verdict
    names = ", ".join(sorted(held)[:3])
    return replace(verdict, sentence=f"{verdict.sentence} Held by an operator: {names}.")


def open_desk(level: int = logging.INFO, seen: Sequence[nodes.NodeState] | None = None) -> Desk | None:
    """Look at the fleet; ``None`` when capacity is not watched, so that everything may start.

    Verdicts are logged at ``level``: those that are only shown to somebody need not be. ``seen`` as in :func:`look`.
    """
    if not conf.settings().capacity:
        return None
    ramp = PollState.objects.values_list("ramp", flat=True).first() or {}
    return Desk(look(seen), ramp.get("held", []), level)


def look(seen: Sequence[nodes.NodeState] | None = None) -> Fleet:
    """The fleet as it is now, in a constant number of queries.

    Whoever holds locks gives what ``nodes.states`` has ``seen`` before: it asks Redis, which may hang.
    """
    by_node = loads.by_node()
    held = nodes.held()
    found = nodes.states() if seen is None else seen
    views = [
        replace(view, is_online=view.is_online and view.name not in held).carrying(by_node.get(view.name, ()))
        for view in (state.view for state in found)
    ]
    if any(view.gpus for view in views):
        visible = acknowledgements.visible_gpus()
        views = [gpus.restricted(view, visible[view.name]) if view.name in visible else view for view in views]
    states = {state.row.name: state.watch.state for state in found if state.row.watch}
    return Fleet(views, [load.needs for load in by_node.get(None, ())], states, database_seconds())


_known_needs: dict[str, Needs] = {}


def needs_of(stored: dict[str, Any]) -> Needs:
    """The needs of an entry; equal ones are one object, which the policy groups by."""
    key = repr(sorted(stored.items()))
    if key not in _known_needs:
        _known_needs[key] = Needs(**stored)
    return _known_needs[key]
