"""Memory that our processes occupy when idle: it must not hide what work has reserved and does not use yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pause_manager.capacity.foreign import MEMORY, gpu_resource
from pause_manager.capacity.headroom import Resource
from pause_manager.capacity.node_headroom import gpu_is_unknown
from pause_manager.capacity.snapshot import Allocation, NodeView
from pause_manager.capacity.yielding import gives

Amounts = Mapping[Resource, int]


@dataclass(frozen=True)
class Idle:
    """The baseline of one node: MiB of its memory, and of each GPU, by one look a sample.

    Idle pool processes, what they keep of work that has ended, contexts of CUDA. It is what was occupied before a load
    started, less what older loads may have of it: at most what they declared.
    """

    at: float = 0.0
    """The time of the sample that it is from; 0: there was none."""
    own: Amounts = field(default_factory=dict)
    """What our processes occupied in all."""
    idle: Amounts = field(default_factory=dict)
    floor: Amounts = field(default_factory=dict)
    """The same when nothing of ours was running, and less if they have occupied less since."""
    is_at_work: bool = False
    """Whether any load was there. If not, it is measured again with the next sample."""

    def seen(self, view: NodeView) -> Idle:
        """The baseline after one more sample, in ``view`` with the loads that the node carries."""
        if view.sampled_at <= self.at:
            return self
        allocations = [
            allocation
            for allocation in view.allocations
            if not allocation.is_sent and allocation.started_at < view.sampled_at
        ]
        own, idle, floor = _own(view), {}, {}
        for resource, amount in own.items():
            now = _declared(allocations, resource, view)
            if not now:
                idle[resource] = floor[resource] = amount
                continue
            floor[resource] = min(self.floor.get(resource, 0), amount)
            if resource not in self.idle:
                idle[resource] = max(0, amount - now)
                continue
            older = _declared(
                (allocation for allocation in allocations if allocation.started_at < self.at), resource, view
            )
            idle[resource] = max(self.idle[resource], self.own.get(resource, 0) - older)
            if amount < idle[resource]:
                # A part of it was a load's that has ended: what is running is taken to show.
                idle[resource] = max(floor[resource], amount - now)
        return Idle(view.sampled_at, own, idle, floor, is_at_work=bool(allocations))

    def told(self, view: NodeView) -> NodeView:
        """``view`` with this baseline, for the caller that measures its room."""
        if not self.at:
            return view
        gpus = tuple(replace(gpu, idle_mib=self.idle.get(gpu_resource(gpu.id), 0)) for gpu in view.gpus)
        return replace(view, gpus=gpus, idle_memory_mib=self.idle.get(MEMORY, 0), idle_at=self.at)

    @property
    def lasting(self) -> Idle:
        """Return what of it is of use to another who begins to look; nothing as long as nothing is running."""
        return Idle(idle=self.idle, floor=self.floor) if self.is_at_work else Idle()

    def as_list(self) -> list[list[Any]]:
        """``lasting``, as plain values for JSON."""
        return [[*resource, amount, self.floor.get(resource, 0)] for resource, amount in sorted(self.idle.items())]

    @classmethod
    def of_list(cls, kept: Iterable[Any]) -> Idle:
        """The baseline of :meth:`as_list`, for the next who looks."""
        rows = list(kept)
        return cls(
            idle={(kind, which): amount for kind, which, amount, _ in rows},
            floor={(kind, which): least for kind, which, _, least in rows},
        )


def _own(view: NodeView) -> dict[Resource, int]:
    found = {MEMORY: view.own_memory_mib}
    for gpu in () if view.gpu_problem else view.gpus:
        if not gpu_is_unknown(gpu) and not gpu.is_unified and not gpu.note:
            found[gpu_resource(gpu.id)] = gpu.own_mib
    return found


def _declared(allocations: Iterable[Allocation], resource: Resource, view: NodeView) -> int:
    return sum(gives(allocation, resource, view) for allocation in allocations)
