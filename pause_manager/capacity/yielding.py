"""One node over time: when it stops taking work, and which loops and tasks yield to other processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pause_manager.capacity.foreign import CPU, MEMORY, ForeignPeak, Usage, gpu_resource, usage
from pause_manager.capacity.headroom import Margin, Resource, Share, to_millicores
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import headroom, is_readable, pause_threshold, resume_threshold
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import Allocation, NodeView
from pause_manager.capacity.wording import label, percent, why_own

COOLDOWN_MAX_SECONDS = 900.0
"""Longest cooldown."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class NodeState:
    """State of a node that one judgement leaves to the next."""

    is_saturated: bool = False
    roomy_since: float | None = None
    """Since when its share has been back at the resume threshold, while it is saturated."""
    contended_since: float | None = None
    contended_at: float | None = None
    """When work was last told to yield."""
    cooldown: float = 0.0
    cooldown_until: float = 0.0
    yielding: tuple[tuple[str, float], ...] = ()
    """Refs of what was told to yield and still shows among the node's loads, each with the time it was told."""
    foreign_peak: ForeignPeak = field(default_factory=ForeignPeak)

    def takes_parked_work(self, now: float) -> bool:
        return not self.is_saturated and now >= self.cooldown_until

    def margin(self, view: NodeView, policy: Policy) -> Margin:
        """Return what to leave free beside work that is sent there now."""
        if not self.foreign_peak.latest and not self.foreign_peak.before:
            return {}
        return self.foreign_peak.margin(usage(view, policy), policy)

    def margin_text(self, view: NodeView, policy: Policy) -> str:
        """``margin`` for people, such as ``0.2 cores of node-1``; empty if nothing is left free."""
        parts = [_told(resource, amount) for resource, amount in self.margin(view, policy).items()]
        return f"{' and '.join(parts)} of {view.name}" if parts else ""


def _told(resource: Resource, amount: int) -> str:
    kind, gpu = resource
    if kind == "cpu":
        return f"{round(amount / 1000, 2):g} cores"
    return f"{amount:,} MiB" if kind == "memory" else f"{amount:,} MiB on GPU {gpu}"


@dataclass(frozen=True)
class Judgement:
    """The decision about a node, with the figures behind it."""

    node: str
    code: str
    """free, saturated, contended or unknown."""
    sentence: str
    is_saturated: bool = False
    """Stop consuming from its queues."""
    is_contended: bool = False
    yields: tuple[str, ...] = ()
    """Refs of the loops and tasks that must leave at the next item."""
    has_changed: bool = False
    """Worth an event: it saturated, has room again, or work must yield."""
    figures: Figures = field(default_factory=dict)


def judge(
    view: NodeView, state: NodeState, policy: Policy, now: float, kinds: Sequence[Needs] = (Needs(),)
) -> tuple[NodeState, Judgement]:
    """Judge a node once more. ``kinds`` are the needs of the work that its queues carry."""
    # 1. Without a fresh sample nothing new starts there, and running work is left alone.
    if not is_readable(view, now, policy):
        after = replace(state, roomy_since=None, contended_since=None)
        sentence = f"{view.name} is unknown: its last sample is {max(now - view.sampled_at, 0):.0f} s old."
        return after, Judgement(view.name, "unknown", sentence, is_saturated=True)
    # 2. Forget what has left since it was told to yield. After the patience it counts again, as it may never leave.
    here = {allocation.ref for allocation in view.allocations}
    yielding = tuple((ref, at) for ref, at in state.yielding if ref in here)
    leaving = frozenset(ref for ref, at in yielding if now - at < policy.yield_patience_seconds)
    # 3. Measure what other processes use, and remember their peak.
    used = usage(view, policy, leaving)
    after = replace(state, yielding=yielding, foreign_peak=state.foreign_peak.seen(used, policy, now))
    # 4. Saturation: may new work start here?
    after, best = _saturation(view, after, policy, now, kinds)
    # 5. Contention: must running work give something back?
    after, yields, deficits = _contention(view, after, used, policy, now)
    # 6. Put the decision into a code, a sentence and its details.
    return after, _judgement(view, state, after, policy, now, best, used, yields, deficits)


def _saturation(
    view: NodeView, state: NodeState, policy: Policy, now: float, kinds: Sequence[Needs]
) -> tuple[NodeState, Share | None]:
    left = headroom(view, now, policy)
    shares = [share for needs in kinds if (share := left.share(needs)) is not None]
    best: Share | None = None
    for share in shares:
        if best is None or best.is_scarcer(share):
            best = share
    if best is None or best.is_below(pause_threshold(view, policy)):
        return replace(state, is_saturated=True, roomy_since=None), best
    if not state.is_saturated:
        return state, best
    if best.is_below(resume_threshold(view, policy)):
        return replace(state, roomy_since=None), best
    since = now if state.roomy_since is None else state.roomy_since
    if now - since >= policy.resume_dwell_seconds:
        return replace(state, is_saturated=False, roomy_since=None), best
    return replace(state, roomy_since=since), best


def _contention(
    view: NodeView, state: NodeState, used: dict[Resource, Usage], policy: Policy, now: float
) -> tuple[NodeState, list[Allocation], dict[Resource, int]]:
    deficits = {resource: use.deficit for resource, use in used.items() if use.deficit}
    if not deficits:
        return replace(state, contended_since=None), [], deficits
    since = now if state.contended_since is None else state.contended_since
    if now - since < policy.contended_dwell_seconds:
        return replace(state, contended_since=since), [], deficits
    threshold = pause_threshold(view, policy)
    overrun = {
        resource
        for resource in deficits
        if Share(used[resource].total - used[resource].foreign, used[resource].total, resource[0]).is_below(threshold)
    }
    yields = _who_yields(view, _candidates(view, state, policy, now), deficits, overrun)
    if not yields:
        return replace(state, contended_since=since), [], deficits
    has_come_again = state.cooldown and now - state.cooldown_until < max(2 * state.cooldown, policy.peak_seconds)
    cooldown = min(2 * state.cooldown, COOLDOWN_MAX_SECONDS) if has_come_again else policy.cooldown_seconds
    after = replace(
        state,
        contended_since=since,
        contended_at=now,
        cooldown=cooldown,
        cooldown_until=now + cooldown,
        yielding=(*state.yielding, *((allocation.ref, now) for allocation in yields)),
    )
    return after, yields, deficits


def _candidates(view: NodeView, state: NodeState, policy: Policy, now: float) -> list[Allocation]:
    """Loops and tasks that may yield, first to go first.

    Lowest priority (5 before 1); of equal priority those that have had their minimum run, then the last started.
    """
    told = {ref for ref, _ in state.yielding}
    may = [
        allocation
        for allocation in view.allocations
        if allocation.can_yield and not allocation.is_sent and allocation.ref not in told
    ]
    young = policy.minimum_run_seconds
    return sorted(
        may,
        key=lambda allocation: (
            -allocation.priority,
            now - allocation.started_at < young,
            -allocation.started_at,
            allocation.ref,
        ),
    )


def _who_yields(
    view: NodeView, order: list[Allocation], deficits: dict[Resource, int], overrun: set[Resource]
) -> list[Allocation]:
    """Just enough to cover the deficits; all on a resource of which other processes leave less than the threshold."""
    must = [allocation for allocation in order if any(gives(allocation, resource, view) for resource in overrun)]
    chosen = list(must)
    missing = _missing(view, deficits, chosen)
    for allocation in order:
        if missing and allocation not in must and any(gives(allocation, resource, view) for resource in missing):
            chosen.append(allocation)
            missing = _missing(view, deficits, chosen)
    for allocation in reversed([allocation for allocation in chosen if allocation not in must]):
        others = [other for other in chosen if other is not allocation]
        if _missing(view, deficits, others) == missing:
            chosen = others
    return chosen


def gives(allocation: Allocation, resource: Resource, view: NodeView) -> int:
    """Return how much of ``resource`` of ``view`` is free again once ``allocation`` has yielded."""
    if resource == CPU:
        return to_millicores(allocation.needs.cpu)
    if resource == MEMORY:
        return view.memory_mib_of(allocation)
    return allocation.needs.gpu_memory_mib if resource[1] in allocation.gpus else 0


def _missing(view: NodeView, deficits: dict[Resource, int], chosen: Iterable[Allocation]) -> dict[Resource, int]:
    chosen = list(chosen)
    left = {
        resource: amount - sum(gives(allocation, resource, view) for allocation in chosen)
        for resource, amount in deficits.items()
    }
    return {resource: amount for resource, amount in left.items() if amount > 0}


def _judgement(
    view: NodeView,
    before: NodeState,
    after: NodeState,
    policy: Policy,
    now: float,
    best: Share | None,
    used: dict[Resource, Usage],
    yields: list[Allocation],
    deficits: dict[Resource, int],
) -> Judgement:
    going = {allocation.ref for allocation in yields}
    figures: Figures = {
        "free_share": None if best is None else round(float(best), 4),
        "scarcest": None if best is None else best.resource,
        "threshold": pause_threshold(view, policy),
        "resume_threshold": resume_threshold(view, policy),
        "deficits": {_name(resource): amount for resource, amount in deficits.items()},
        "usage": {
            _name(resource): {"total": use.total, "foreign": use.foreign, "declared": use.declared}
            for resource, use in used.items()
            if resource[0] != "gpu_memory" or resource in deficits or len(used) <= 4
        },
    }
    if yields:
        figures["contended_since"] = after.contended_since
        figures["yields"] = [_candidate(allocation, now) for allocation in yields]
        figures["runners_up"] = [
            _candidate(allocation, now)
            for allocation in _candidates(view, before, policy, now)
            if allocation.ref not in going
        ]
    is_contended = bool(deficits) and (bool(yields) or _has_dwelt(after, policy, now))
    code = "contended" if is_contended else "saturated" if after.is_saturated else "free"
    return Judgement(
        view.name,
        code,
        _sentence(view, code, best, used, deficits, yields, figures),
        is_saturated=after.is_saturated,
        is_contended=is_contended,
        yields=tuple(allocation.ref for allocation in yields),
        has_changed=bool(yields) or before.is_saturated != after.is_saturated,
        figures=figures,
    )


def _has_dwelt(state: NodeState, policy: Policy, now: float) -> bool:
    return state.contended_since is not None and now - state.contended_since >= policy.contended_dwell_seconds


def _candidate(allocation: Allocation, now: float) -> Figures:
    return {
        "ref": allocation.ref,
        "priority": allocation.priority,
        "ran_seconds": round(now - allocation.started_at, 1),
    }


def _sentence(
    view: NodeView,
    code: str,
    best: Share | None,
    used: dict[Resource, Usage],
    deficits: dict[Resource, int],
    yields: list[Allocation],
    figures: Figures,
) -> str:
    node = view.name
    if code == "contended":
        resource = max(deficits, key=lambda key: deficits[key] / used[key].total)
        use = used[resource]
        told = (
            f"{node} is overcommitted: other processes need {_amount(resource, use.foreign)} "
            f"and our work reserved {_amount(resource, use.declared)} of {_amount(resource, use.total)}"
        )
        if not yields:
            return f"{told}; none of it can yield."
        some = "one piece of it yields" if len(yields) == 1 else f"{len(yields)} pieces of it yield"
        return f"{told}; {some} (lowest priority first, then last started)."
    if best is None:
        return f"{node} takes no new work: its GPUs cannot be read."
    has = f"{percent(best)} of its {label(best)} free"
    if code == "saturated":
        return f"{node} takes no new work: it has {has}; it stops below {figures['threshold']:.0%} " + (
            f"and resumes at {figures['resume_threshold']:.0%}{why_own(view)}."
        )
    return f"{node} has {has}."


def _name(resource: Resource) -> str:
    return f"gpu {resource[1]}" if resource[1] else resource[0]


def _amount(resource: Resource, amount: int) -> str:
    return f"{amount / 1000:.1f} cores" if resource == CPU else f"{amount:,} MiB"


__all__ = ["Judgement", "NodeState", "gives", "gpu_resource", "judge"]
