"""Admission of new work: whether it may start, and where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pause_manager.capacity.headroom import Share, most_seen
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import is_readable, pause_threshold, resume_threshold, share
from pause_manager.capacity.placement.eligible import can_ever_run, large_gpus
from pause_manager.capacity.placement.headrooms import Headrooms
from pause_manager.capacity.placement.ledger import Placement
from pause_manager.capacity.placement.ledgers import admission_ledger
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView
from pause_manager.capacity.wording import amount, least, why_own
from pause_manager.capacity.yielding import NodeState

__all__ = ["Placement", "Verdict", "admit", "goes_behind", "how_many_fit", "place", "should_pause"]

Figures = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether to pause, why in a code for machines and a sentence for people, and the figures (JSON values)."""

    should_pause: bool
    code: str
    """has_room, below_threshold, no_online_node, no_worker, no_eligible_node or no_readable_sample."""
    sentence: str
    figures: Figures = field(default_factory=dict)


def should_pause(
    nodes: Sequence[NodeView],
    needs: Needs,
    policy: Policy,
    now: float,
    queue: str = "",
    headrooms: Headrooms | None = None,
) -> Verdict:
    """Pause when every eligible node's share is strictly below its threshold, or when none is eligible or readable.

    A node is eligible if it is online, and a live worker there serves ``queue``, in a container that is large enough
    and with as many large enough GPUs in its sight. ``rooms`` spares a caller that asks again measuring them again.
    """
    headrooms = headrooms or Headrooms(now)
    online = [node for node in nodes if is_readable(node, now, policy)]
    serving = [node for node in online if node.serves(queue)]
    eligible = [node for node in serving if can_ever_run(node, needs, queue)]
    shares = [(node, left) for node in eligible if (left := headrooms.of(node, policy).share(needs, queue)) is not None]
    figures = _figures(nodes, online, eligible, shares, needs, policy)
    if not online:
        told = f"none of {len(nodes)} nodes has a fresh sample" if nodes else "no node has ever reported"
        return Verdict(True, "no_online_node", f"No node is online: {told}.", figures)
    if not serving and (away := [node.name for node in nodes if node.workers is not None and node.serves(queue)]):
        told = f"{', '.join(away[:3])} {'takes' if len(away) == 1 else 'take'} no work"
        return Verdict(True, "no_online_node", f"No node is online that serves the queue {queue}: {told}.", figures)
    if not serving:
        return Verdict(True, "no_worker", f"No live worker serves the queue {queue}.", figures)
    if not eligible:
        silent = [node for node in serving if node.gpu_problem and not node.gpus]
        if needs.gpus and silent:
            why = f"the GPUs of {silent[0].name} are unknown: {silent[0].gpu_problem}"
            return Verdict(True, "no_readable_sample", f"No node is known to be able to run this: {why}.", figures)
        why = _why_no_gpus(online, serving, needs, queue) if needs.gpus else ""
        sentence = f"No online node can ever run this: it needs {needs}{why}."
        return Verdict(True, "no_eligible_node", sentence, figures)
    if not shares:
        return Verdict(True, "no_readable_sample", f"The GPUs cannot be read: {_gpu_problem(eligible)}.", figures)
    best, left = max(shares, key=lambda pair: (float(pair[1]), pair[0].name))
    roomy = [(node, left) for node, left in shares if not left.is_below(pause_threshold(node, policy))]
    if roomy:
        best, left = max(roomy, key=lambda pair: (float(pair[1]), pair[0].name))
        return Verdict(False, "has_room", f"{best.name} has {amount(left)} free.", figures)
    threshold = pause_threshold(best, policy)
    among = "the only node that can run this" if len(shares) == 1 else f"the freest of {len(shares)} nodes"
    sentence = (
        f"{best.name}, {among}, has {amount(left)} free, {needs} needed; "
        f"new work starts there only with {least(left, threshold)} free{why_own(best)}."
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
    queue: str = "",
) -> int:
    """Return how many of ``wanted`` pieces have room now, each reserved before the next is judged."""
    ledger = admission_ledger(nodes, policy, now, states)
    for count in range(wanted):
        if ledger.place(needs, barred, queue=queue) is None:
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
    queue: str = "",
) -> Placement | None:
    """The node (and GPUs) for one piece of work, or None: its share is not below the threshold and the work fits.

    With ``states``, saturated nodes take none and the peaks of foreign use stay free. ``barred`` are nodes kept
    free for others (``RampState.held``). Only nodes count where a live worker serves ``queue``.
    """
    return admission_ledger(nodes, policy, now, states).place(needs, barred, queue=queue)


def admit(
    node: NodeView,
    needs: Needs,
    policy: Policy,
    now: float,
    state: NodeState | None = None,
    *,
    kept_for: Needs | None = None,
    was_parked: bool = False,
) -> Placement | Verdict:
    """A place on this one node for work that starts now, or why there is none.

    ``state`` is what is remembered of the node, ``kept_for`` the needs of other work that it is kept free for, and
    ``was_parked`` says that the work comes from the pause queue.
    """
    placement = None
    if kept_for is None and not (was_parked and state is not None and not state.takes_parked_work(now)):
        placement = place([node], needs, policy, now, states={node.name: state} if state is not None else None)
    if placement is not None:
        return placement
    verdict = should_pause([node], needs, policy, now)
    left = share(node, needs, now, policy)
    if left is None or verdict.code not in ("has_room", "below_threshold"):
        return verdict
    has = f"{node.name} has {amount(left)} free, {needs} needed"
    if kept_for is not None:
        return replace(verdict, should_pause=True, code="kept_free", sentence=f"{has}; it is kept free for {kept_for}.")
    if verdict.should_pause:
        return verdict
    if state is not None and (state.is_saturated or was_parked):
        must = (
            f"must keep {least(left, resume_threshold(node, policy))} free for {policy.resume_dwell_seconds:g} s first"
        )
        if not state.is_saturated:
            must = f"takes no parked work for another {state.cooldown_until - now:.0f} s, as work there had to give way"
        return replace(verdict, should_pause=True, code="must_settle", sentence=f"{has}; it {must}.")
    margin = state.margin_text(node, policy) if state is not None else ""
    beside = f", and {margin} are reserved for other processes that recently used more" if margin else ""
    return replace(verdict, should_pause=True, code="does_not_fit", sentence=f"{has}{beside}.")


def goes_behind(waiting: Iterable[tuple[Needs, int]], needs: Needs, priority: int) -> bool:
    """Whether a newcomer must queue: something no larger and no less urgent waits already and would want its place.

    Without this, newcomers (who need 20 % free) would pass parked work (which needs 30 %) forever.
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
            "loads": sum(len(node.allocations) for node in eligible),
        },
    }


def _why_no_gpus(online: Sequence[NodeView], serving: Sequence[NodeView], needs: Needs, queue: str) -> str:
    for node in serving:
        large = large_gpus(node, needs)
        seen = most_seen(node.groups, large, queue) if node.groups else len(large)
        if seen < needs.gpus <= len(large):
            whose = f"worker of the queue {queue}" if queue else "worker"
            has = (
                f"its {len(large)} GPUs"
                if len(large) == len(node.gpus)
                else f"the {len(large)} GPUs that are large enough"
            )
            return f"; no {whose} on {node.name} sees {f'more than {seen}' if seen else 'any'} of {has}"
    told = next((f"{node.name} has {node.gpu_note}" for node in online if node.gpu_note and not node.gpus), "")
    return f"; {told}" if told else ""


def _gpu_problem(nodes: Sequence[NodeView]) -> str:
    for node in nodes:
        for problem in (node.gpu_problem, *(gpu.problem for gpu in node.gpus)):
            if problem:
                return f"{node.name}: {problem}"
    return "the sensor gave no figure for their memory"
