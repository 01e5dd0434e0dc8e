"""Whether new work may start, and where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pause_manager.capacity.book import Placement
from pause_manager.capacity.books import admission_book
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.room import Share, can_ever_run, is_readable, pause_threshold, percent, share, why_own, word
from pause_manager.capacity.yielding import NodeState
from pause_manager.needs import Needs
from pause_manager.views import NodeView

__all__ = ["Placement", "Verdict", "goes_behind", "how_many_fit", "place", "should_pause"]

Figures = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether to pause, why in a code for machines and a sentence for people, and the figures (JSON values)."""

    should_pause: bool
    code: str
    """has_room, below_threshold, no_online_node, no_eligible_node or no_readable_sample."""
    sentence: str
    figures: Figures = field(default_factory=dict)


def should_pause(nodes: Sequence[NodeView], needs: Needs, policy: Policy, now: float) -> Verdict:
    """Pause when every eligible node's share is strictly below its threshold, or when none is eligible or readable."""
    online = [node for node in nodes if is_readable(node, now, policy)]
    eligible = [node for node in online if can_ever_run(node, needs)]
    shares = [(node, left) for node in eligible if (left := share(node, needs, now, policy)) is not None]
    figures = _figures(nodes, online, eligible, shares, needs, policy)
    if not online:
        told = f"none of {len(nodes)} nodes has a fresh sample" if nodes else "no node has ever reported"
        return Verdict(True, "no_online_node", f"No node is online: {told}.", figures)
    if not eligible:
        silent = [node for node in online if node.gpu_problem and not node.gpus]
        if needs.gpus and silent:
            why = f"the GPUs of {silent[0].name} are unknown: {silent[0].gpu_problem}"
            return Verdict(True, "no_readable_sample", f"No node is known to be able to run this: {why}.", figures)
        sentence = f"No online node can ever run this: it needs {needs}{_why_no_gpus(online) if needs.gpus else ''}."
        return Verdict(True, "no_eligible_node", sentence, figures)
    if not shares:
        return Verdict(True, "no_readable_sample", f"The GPUs cannot be read: {_gpu_problem(eligible)}.", figures)
    best, left = max(shares, key=lambda pair: (float(pair[1]), pair[0].name))
    roomy = [(node, left) for node, left in shares if not left.is_below(pause_threshold(node, policy))]
    if roomy:
        best, left = max(roomy, key=lambda pair: (float(pair[1]), pair[0].name))
        return Verdict(False, "has_room", f"{best.name} has {percent(left)} of its {word(left)} free.", figures)
    threshold = pause_threshold(best, policy)
    among = "the only node that can run this" if len(shares) == 1 else f"the freest of {len(shares)} nodes"
    sentence = (
        f"{best.name}, {among}, has {percent(left)} of its {word(left)} free; it takes {threshold:.0%}{why_own(best)}."
    )
    return Verdict(True, "below_threshold", sentence, figures)


def how_many_fit(
    nodes: Sequence[NodeView],
    needs: Needs,
    wanted: int,
    policy: Policy,
    now: float,
    *,
    barred: Collection[str] = (),
    states: Mapping[str, NodeState] | None = None,
) -> int:
    """How many of ``wanted`` pieces have room now, each reserved before the next is judged."""
    book = admission_book(nodes, policy, now, states)
    for count in range(wanted):
        if book.place(needs, barred) is None:
            return count
    return max(wanted, 0)


def place(
    nodes: Sequence[NodeView],
    needs: Needs,
    policy: Policy,
    now: float,
    *,
    barred: Collection[str] = (),
    states: Mapping[str, NodeState] | None = None,
) -> Placement | None:
    """The node (and GPUs) for one piece of work, or None: its share is not below the threshold and the work fits.

    With ``states``, saturated nodes take none and strangers' swings are left their room. ``barred`` are nodes kept
    free for others (``RampState.held``).
    """
    return admission_book(nodes, policy, now, states).place(needs, barred)


def goes_behind(waiting: Iterable[tuple[Needs, int]], needs: Needs, priority: int) -> bool:
    """Whether a newcomer must queue: something no larger and no less urgent waits already and would want its place.

    Without this, newcomers (who need 20 % free) would pass parked work (which needs 30 %) for ever.
    """
    return any(urgency <= priority and _is_no_larger(other, needs) for other, urgency in waiting)


def _is_no_larger(one: Needs, other: Needs) -> bool:
    return (
        one.cpu <= other.cpu
        and one.memory_mib <= other.memory_mib
        and one.gpus <= other.gpus
        and (not one.gpus or _gpu_size(one) <= _gpu_size(other))
    )


def _gpu_size(needs: Needs) -> float:
    return needs.gpu_memory_mib or float("inf")


def _figures(
    nodes: Sequence[NodeView],
    online: Sequence[NodeView],
    eligible: Sequence[NodeView],
    shares: Sequence[tuple[NodeView, Share]],
    needs: Needs,
    policy: Policy,
) -> Figures:
    fractions = [float(left) for _, left in shares]
    return {
        "nodes": len(nodes),
        "online": len(online),
        "eligible": len(eligible),
        "readable": len(shares),
        "average_free_share": round(sum(fractions) / len(fractions), 4) if fractions else None,
        "best_free_share": round(max(fractions), 4) if fractions else None,
        "threshold": policy.pause_below,
        "needs": {
            "cpu": needs.cpu,
            "memory_mib": needs.memory_mib,
            "gpu_memory_mib": needs.gpu_memory_mib,
            "gpus": needs.gpus,
        },
        "totals": {
            "cores": round(sum(node.cores for node in eligible), 3),
            "foreign_cores": round(sum(node.foreign_cores for node in eligible), 3),
            "steady_foreign_cores": round(sum(node.counted_foreign_cores for node in eligible), 3),
            "memory_mib": sum(node.memory_mib for node in eligible),
            "free_memory_mib": sum(node.free_memory_mib for node in eligible),
            "gpus": sum(len(node.gpus) for node in eligible),
            "gpu_memory_mib": sum(gpu.total_mib for node in eligible for gpu in node.gpus),
            "free_gpu_memory_mib": sum(gpu.free_mib or 0 for node in eligible for gpu in node.gpus),
            "loads": sum(len(node.loads) for node in eligible),
        },
    }


def _why_no_gpus(nodes: Sequence[NodeView]) -> str:
    told = next((f"{node.name} has {node.gpu_note}" for node in nodes if node.gpu_note and not node.gpus), "")
    return f"; {told}" if told else ""


def _gpu_problem(nodes: Sequence[NodeView]) -> str:
    for node in nodes:
        for problem in (node.gpu_problem, *(gpu.problem for gpu in node.gpus)):
            if problem:
                return f"{node.name}: {problem}"
    return "the sensor gave no figure for their memory"
