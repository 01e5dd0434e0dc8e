"""Foreign use of a node: of other processes than ours, with its recent peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pause_manager.capacity.headroom import Resource, most_seen, to_millicores
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import beyond_noise, foreign_millicores, gpu_is_unknown
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView

CPU: Resource = ("cpu", "")
MEMORY: Resource = ("memory", "")


def gpu_resource(gpu: str) -> Resource:
    return ("gpu_memory", gpu)


class Usage(NamedTuple):
    """One resource of a node: its total, what other processes use, what our running loops and tasks declared."""

    total: int
    foreign: int
    declared: int

    @property
    def deficit(self) -> int:
        """How much our work must give back. Never more than other processes use: own load alone pauses nothing."""
        return max(0, min(self.foreign, self.foreign + self.declared - self.total))


def usage(node: NodeView, policy: Policy, leaving: frozenset[str] = frozenset()) -> dict[Resource, Usage]:
    """Every readable resource of ``node``; a GPU without memory of its own is none.

    What is named in ``leaving``, and what is only sent, declares nothing.

    Where the sensor shows no memory of ours, what is used is taken for ours as far as we declared it: nobody yields
    on a guess. A whole GPU taken without a figure declares only what it is seen to use.
    """
    cpu = memory = memory_staying = 0
    on_gpus: dict[str, int] = {}
    staying_on_gpus: dict[str, int] = {}
    for allocation in node.allocations:
        if allocation.is_sent:
            continue
        stays = allocation.ref not in leaving
        amount = node.memory_mib_of(allocation)
        memory += amount
        if stays:
            cpu += to_millicores(allocation.needs.cpu)
            memory_staying += amount
        for gpu_id in allocation.gpus:
            on_gpus[gpu_id] = on_gpus.get(gpu_id, 0) + allocation.needs.gpu_memory_mib
            if stays:
                staying_on_gpus[gpu_id] = staying_on_gpus.get(gpu_id, 0) + allocation.needs.gpu_memory_mib
    used = node.memory_mib - node.free_memory_mib
    found = {
        CPU: Usage(to_millicores(node.cores), foreign_millicores(node, policy), cpu),
        MEMORY: Usage(node.memory_mib, _foreign(used, node.own_memory_mib, memory), memory_staying),
    }
    for gpu in () if node.gpu_problem else node.gpus:
        if gpu_is_unknown(gpu) or gpu.free_mib is None or gpu.is_unified:
            continue
        foreign = _foreign(gpu.total_mib - gpu.free_mib, gpu.own_mib, on_gpus.get(gpu.id, 0))
        found[gpu_resource(gpu.id)] = Usage(gpu.total_mib, foreign, staying_on_gpus.get(gpu.id, 0))
    return found


def would_fit_alone(node: NodeView, needs: Needs, policy: Policy, queue: str = "") -> bool:
    """Whether other processes leave room for ``needs`` without work of ours, on GPUs that those of ``queue`` see."""
    found = usage(node, policy)
    cpu, memory = found[CPU], found[MEMORY]
    if to_millicores(needs.cpu) > cpu.total - cpu.foreign or needs.memory_mib > memory.total - memory.foreign:
        return False
    if not needs.gpus:
        return True
    left = {gpu: use.total - use.foreign for (kind, gpu), use in found.items() if kind == "gpu_memory"}
    beside = memory.total - memory.foreign - needs.memory_mib
    unified = [gpu for gpu in node.gpus if gpu.is_unified and not node.gpu_problem and not gpu_is_unknown(gpu)]
    left |= {gpu.id: beside for gpu in unified}
    fitting = [gpu for gpu, free in left.items() if free >= max(needs.gpu_memory_mib, 1)]
    groups = node.groups
    return (most_seen(groups, fitting, queue) if groups else len(fitting)) >= needs.gpus


def _foreign(used: int, own: int, declared: int) -> int:
    return max(0, used - (own or min(used, declared)))


Steps = tuple[tuple[float, int], ...]
"""Since when other processes have used at least so much, from the least to what they use now."""


@dataclass(frozen=True)
class ForeignPeak:
    """The highest use by other processes that lasted, over ``peak_seconds`` at least, in two buckets of that length.

    What lasts less than the contended dwell makes no loop yield, so it is no reason to keep room either.
    """

    since: float = 0.0
    before: Mapping[Resource, int] = field(default_factory=dict)
    latest: Mapping[Resource, int] = field(default_factory=dict)
    levels: Mapping[Resource, Steps] = field(default_factory=dict)

    def seen(self, now_used: Mapping[Resource, Usage], policy: Policy, now: float) -> ForeignPeak:
        """Return the peak after one more look."""
        dwell = policy.contended_dwell_seconds
        levels, lasted = {}, {}
        for resource, use in now_used.items():
            steps = self.levels.get(resource, ())
            lasted[resource] = max((amount for since, amount in steps if now - since >= dwell), default=0)
            levels[resource] = _stepped(steps, use.foreign, now, dwell)
        if now - self.since >= policy.peak_seconds:
            is_recent = now - self.since < 2 * policy.peak_seconds
            return ForeignPeak(now, self.latest if is_recent else {}, lasted, levels)
        if any(amount > self.latest.get(resource, -1) for resource, amount in lasted.items()):
            merged = {resource: max(amount, self.latest.get(resource, 0)) for resource, amount in lasted.items()}
            return ForeignPeak(self.since, self.before, merged, levels)
        return self if levels == self.levels else ForeignPeak(self.since, self.before, self.latest, levels)

    def margin(self, now_used: Mapping[Resource, Usage], policy: Policy) -> dict[Resource, int]:
        """What to leave free beside new work: how far other processes exceeded their present use, at most the gap.

        A load that varies by no more than the distance of the two thresholds then makes no resumed loop yield.
        """
        found, gap = {}, policy.gap
        for resource, use in now_used.items():
            above = self._peak(resource) - use.foreign
            if above <= 0:
                continue
            back = use.foreign + min(above, round(gap * use.total))
            if resource == CPU:
                back = beyond_noise(back, use.total, policy)
            if back > use.foreign:
                found[resource] = back - use.foreign
        return found

    def _peak(self, resource: Resource) -> int:
        return max(self.before.get(resource, 0), self.latest.get(resource, 0))


def _stepped(steps: Steps, amount: int, now: float, dwell: float) -> Steps:
    if len(steps) == 1 and steps[0][1] == amount:
        return steps
    since, kept = now, list(steps)
    while kept and kept[-1][1] >= amount:
        since = kept.pop()[0]
    while len(kept) > 1 and now - kept[1][0] >= dwell:
        kept.pop(0)
    return (*kept, (since, amount))
