"""The shell round ``capacity.consolidate``: names what waits, stores what is decided, and asks what is in the way to
leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pause_manager import capacity, workloads
from pause_manager.actor import CAPACITY
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import NodeView
from pause_manager.messaging import notifier
from pause_manager.models import PauseQueueEntry
from pause_manager.observability import audit
from pause_manager.pause_queue.admission import FleetSnapshot

MAKING_ROOM = "making_room"
"""The code of why large work waits whose node is being made free."""


def consolidate(
    ramp: capacity.RampState, fleet: FleetSnapshot, ledger: capacity.ReservationLedger, policy: capacity.Policy
) -> tuple[list[capacity.Consolidation], capacity.RampState]:
    """What is to be moved for what the plan that ended in ``ramp`` found no room for, and the ramp with it."""
    if not ramp.short or not policy.consolidates:
        return [], ramp
    ramp = replace(ramp, short=_named(ramp.short))
    return capacity.consolidate(ramp, ledger, policy, fleet.now, fleet.states, policy_of=fleet.watch.policy_of)


def _named(short: Sequence[capacity.Waiting]) -> tuple[capacity.Waiting, ...]:
    """The entries by what waits in them, in place of their keys."""
    refs = dict(PauseQueueEntry.objects.filter(pk__in=[entry.ref for entry in short]).values_list("pk", "ref"))
    return tuple(replace(entry, ref=refs.get(int(entry.ref), entry.ref)) for entry in short)


def carry_out(found: Iterable[capacity.Consolidation]) -> None:
    """Ask what is in the way to leave at its next item, and store each decision; in the poll's transaction.

    An event ``node_kept`` has the figures and the runners-up, and each piece of work that is moved has an event
    ``moved`` of its own.
    """
    for one in found:
        workloads.give_way(one.refs, one.sentence)
        node = f"node:{one.kept.node}"
        audit.record("node_kept", scope=node, actor=CAPACITY, reason=one.sentence, details=one.figures)
        pieces = {capacity.piece_of(move.allocation): {"node": one.kept.node, "fits_on": move.to} for move in one.moves}
        audit.record_each("moved", pieces.items(), actor=CAPACITY, reason=one.sentence)
        notifier.changed(node)


def outlook(
    making: Iterable[capacity.ReservedNode], needs: Needs, queue: str, views: Mapping[str, NodeView], now: float
) -> tuple[str, str] | None:
    """Code and sentence of why work with ``needs`` waits, if a node that serves its ``queue`` is made free for it."""
    for one in making:
        if capacity.has_node({one.node: one.needs}, needs, queue, views):
            pieces = "One piece of work" if one.moves == 1 else f"{one.moves} pieces of work"
            asked = f"asked {max(now - one.since, 0):.0f} s ago to move from {one.node}"
            return MAKING_ROOM, f"{pieces} {'was' if one.moves == 1 else 'were'} {asked}, which is kept free for it."
    return None
