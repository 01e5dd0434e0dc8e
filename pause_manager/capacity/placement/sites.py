"""A node as a place that could be emptied: what other processes leave of it, and what of ours is in the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pause_manager.capacity.foreign import CPU, MEMORY, gpu_resource, usage
from pause_manager.capacity.headroom import Headroom, Margin, to_millicores
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import headroom, resume_threshold
from pause_manager.capacity.placement.index import NodeIndex
from pause_manager.capacity.placement.ledger import ReservationLedger
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import Allocation, ContainerView, NodeView
from pause_manager.capacity.yielding import NodeState

Price = Callable[[Allocation], tuple[Any, ...]]


@dataclass(frozen=True)
class Want:
    """Needs and the figures of them that are compared again and again."""

    needs: Needs
    policy: Policy
    cpu: int
    memory: int
    gpus: int
    gpu_memory: int
    queue: str = ""

    @classmethod
    def of(cls, needs: Needs, policy: Policy, queue: str = "") -> Want:
        return cls(needs, policy, to_millicores(needs.cpu), needs.memory_mib, needs.gpus, needs.gpu_memory_mib, queue)


class Site:
    """One node at one time. ``alone`` is the room if nothing of ours were there, ``left`` what is left as it is."""

    def __init__(self, view: NodeView, state: NodeState | None, policy: Policy, now: float) -> None:
        self.name = view.name
        self.view = view
        self.state = state
        self.left = headroom(view, now, policy)
        self.alone = self.left.copy()
        found = usage(view, policy)
        self.alone.cpu_millicores = found[CPU].total - found[CPU].foreign
        self.alone.memory_mib = found[MEMORY].total - found[MEMORY].foreign
        for gpu in self.alone.gpus:
            # One without memory of its own has the machine's.
            use = found[MEMORY if gpu.is_unified else gpu_resource(gpu.id)]
            gpu.free_mib, gpu.allocations = use.total - use.foreign, 0
        if self.left.bounds:
            containers = tuple(_emptied(one) for one in view.containers)
            self.alone.bounds = headroom(replace(view, allocations=(), containers=containers), now, policy).bounds
        self.margin: Margin = state.margin(view, policy) if state is not None else {}
        self.free_gpus = sum(gpu.allocations == 0 for gpu in self.left.gpus)
        self.gpus = sorted(gpu.free_mib for gpu in self.alone.gpus)

    def in_the_way(self, want: Want) -> float | None:
        """How much of the node ``want`` lacks now, as a share; None if other processes leave too little of it."""
        alone, left = self.alone, self.left
        if want.cpu > alone.cpu_millicores or want.memory > alone.memory_mib or want.gpus > len(self.gpus):
            return None
        if want.gpus and self.gpus[-want.gpus] < max(want.gpu_memory, 1):
            return None
        if not self.takes(alone, want):
            return None
        lacks = max(0, want.cpu - left.cpu_millicores) / (alone.cpu_total or 1)
        lacks += max(0, want.memory - left.memory_mib) / (alone.memory_total or 1)
        if want.gpus:
            fitting = [
                gpu.id
                for gpu in left.gpus
                if (gpu.free_mib >= want.gpu_memory if want.gpu_memory else gpu.allocations == 0)
            ]
            lacks += max(0, want.gpus - left.most_seen(fitting, want.queue)) / len(self.gpus)
        return lacks

    def takes(self, left: Headroom, want: Want) -> bool:
        """Return whether ``want`` would resume here, if so much were left."""
        threshold = resume_threshold(self.view, want.policy)
        share = left.share(want.needs, want.queue)
        if share is None or share.is_below(threshold):
            return False
        return left.fits(want.needs, threshold, self.margin, want.queue)

    def cheapest(self, allocations: Sequence[Allocation], want: Want, price: Price) -> list[Allocation] | None:
        """Loads that must leave for ``want``, the cheap before the dear, none that is not needed; None if no such."""
        left = self.left.copy()
        if self.takes(left, want):
            return []
        chosen: list[Allocation] = []
        for allocation in sorted(
            allocations,
            key=lambda allocation: (self._per_gain(allocation, want, price), price(allocation), allocation.ref),
        ):
            self._give_back(left, allocation)
            chosen.append(allocation)
            if self.takes(left, want):
                break
        else:
            return None
        for allocation in sorted(chosen, key=price, reverse=True):
            others = [other for other in chosen if other is not allocation]
            without = self.left.copy()
            for other in others:
                self._give_back(without, other)
            if self.takes(without, want):
                chosen = others
        return chosen

    def _per_gain(self, allocation: Allocation, want: Want, price: Price) -> float:
        """Return what it costs to be rid of ``allocation``, by what of ``want`` it has."""
        gain = 0.0
        if want.cpu > self.left.cpu_millicores:
            gain = max(gain, to_millicores(allocation.needs.cpu) / want.cpu)
        if want.memory > self.left.memory_mib:
            gain = max(gain, self.view.memory_mib_of(allocation) / want.memory)
        if want.gpus:
            gain = max(gain, self.left.most_seen(allocation.gpus, want.queue) / want.gpus)
        if allocation.container in self.left.bounds:
            cpu, memory = to_millicores(allocation.needs.cpu), self.view.memory_mib_of(allocation)
            gain = max(gain, cpu / want.cpu if want.cpu else 0.0, memory / want.memory if want.memory else 0.0)
        return float(price(allocation)[0]) / gain if gain else float("inf")

    def _give_back(self, left: Headroom, allocation: Allocation) -> None:
        """Make ``left`` what it is without ``allocation``: never more than other processes leave."""
        alone = self.alone
        left.cpu_millicores = min(left.cpu_millicores + to_millicores(allocation.needs.cpu), alone.cpu_millicores)
        left.memory_mib = min(left.memory_mib + self.view.memory_mib_of(allocation), alone.memory_mib)
        if allocation.container in left.bounds:
            bound, empty = left.bounds[allocation.container], alone.bounds[allocation.container]
            bound.cpu_millicores = min(bound.cpu_millicores + to_millicores(allocation.needs.cpu), empty.cpu_millicores)
            bound.memory_mib = min(bound.memory_mib + self.view.memory_mib_of(allocation), empty.memory_mib)
        for gpu, most in zip(left.gpus, alone.gpus, strict=True):
            is_its = gpu.id in allocation.gpus
            gpu.allocations -= is_its
            if gpu.is_unified and (is_its or gpu.free_mib > 0):
                gpu.free_mib = min(left.memory_mib, most.free_mib)
            elif is_its:
                given = allocation.needs.gpu_memory_mib or most.free_mib
                gpu.free_mib = min(max(gpu.free_mib, 0) + given, most.free_mib)


def _emptied(one: ContainerView) -> ContainerView:
    """The container as it would be without anything of ours."""
    if one.memory_mib is None or one.free_memory_mib is None:
        return one
    return replace(one, free_memory_mib=min(one.memory_mib, one.free_memory_mib + one.own_memory_mib))


class Sites:
    """Sites measured once for each view of a node, for one ledger."""

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._ways: dict[tuple[Needs, Policy, str], NodeIndex[float]] = {}

    def of(self, view: NodeView, state: NodeState | None, policy: Policy, now: float) -> Site:
        site = self._sites.get(view.name)
        if site is None or site.view is not view or site.state is not state:
            site = self._sites[view.name] = Site(view, state, policy, now)
        return site

    def ways(
        self, want: Want, ledger: ReservationLedger, states: Mapping[str, NodeState], policy: Policy, now: float
    ) -> Mapping[str, float]:
        """How much each node of ``ledger`` lacks for ``want`` as a share, if it could be emptied for it at all."""
        kind = (want.needs, want.policy, want.queue)
        index = self._ways.get(kind)
        if index is None:
            index = self._ways[kind] = NodeIndex(ledger.views, ledger.touched)

        def measured(name: str) -> float | None:
            view = ledger.views[name]
            if not view.serves(want.queue):
                return None
            return self.of(view, states.get(name), policy, now).in_the_way(want)

        index.catch_up(measured)
        return index.values
