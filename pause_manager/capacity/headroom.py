"""Headroom: the free capacity of a node, in integers (thousandths of a core, MiB), so that comparisons are exact."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import WorkerGroup

_MILLION = 1_000_000

Resource = tuple[str, str]
"""("cpu", ""), ("memory", "") or ("gpu_memory", id of the GPU)."""
Margin = Mapping[Resource, int]
"""What to leave free of each resource, in thousandths of a core or MiB."""


class Share(NamedTuple):
    """Free of total for the scarcest resource, exact; ``float(share)`` is for people."""

    free: int
    total: int
    resource: str

    def __float__(self) -> float:
        return self.free / self.total

    def is_below(self, threshold: float) -> bool:
        """Strictly below: a share of exactly 20 % is not below 0.20."""
        return self.free * _MILLION < round(threshold * _MILLION) * self.total

    def is_scarcer(self, other: Share) -> bool:
        return self.free * other.total < other.free * self.total


@dataclass(slots=True)
class GpuHeadroom:
    """What is left of one GPU; negative when other processes took what our allocations declared."""

    id: str
    index: int
    free_mib: int
    total_mib: int
    allocations: int = 0
    """How many of our allocations are on it."""
    is_unified: bool = False
    """Its memory is the machine's: ``free_mib`` follows that of the room."""


@dataclass(slots=True)
class Bound:
    """What is left of one container, whatever its node has beside."""

    cpu_millicores: int
    memory_mib: int

    def fits(self, cpu_millicores: int, memory_mib: int) -> bool:
        return cpu_millicores <= self.cpu_millicores and memory_mib <= self.memory_mib


@dataclass(slots=True)
class Headroom:
    """What is left of one node. ``gpus`` has the readable ones only.

    ``groups`` has the workers of the node, if any of them may not use all of it, and ``bounds`` what is left of their
    containers, by key: work needs workers who serve its queue, see GPUs enough and have room in their container. Those
    whose container is not known are in one of them.
    """

    node: str
    cpu_millicores: int
    cpu_total: int
    memory_mib: int
    memory_total: int
    gpus: list[GpuHeadroom]
    bounds: dict[str, Bound] = field(default_factory=dict)
    groups: Sequence[WorkerGroup] = ()

    def share(self, needs: Needs, queue: str = "") -> Share | None:
        """The scarcest of what ``needs`` uses; None if the GPUs it needs cannot be read. Needing nothing is CPU.

        Of GPUs it is the share that those workers have who serve ``queue`` and see the freest.
        """
        scarcest: Share | None = None
        if needs.gpus:
            gpu = self._nth_freest(needs.gpus, queue)
            if gpu is None:
                return None
            scarcest = Share(gpu.free_mib, gpu.total_mib, "memory" if gpu.is_unified else "gpu_memory")
        if needs.memory_mib and self.memory_total:
            memory = Share(self.memory_mib, self.memory_total, "memory")
            if scarcest is None or memory.is_scarcer(scarcest):
                scarcest = memory
        if (needs.cpu or scarcest is None) and self.cpu_total:
            cpu = Share(self.cpu_millicores, self.cpu_total, "cpu")
            if scarcest is None or cpu.is_scarcer(scarcest):
                scarcest = cpu
        return scarcest

    def _nth_freest(self, count: int, queue: str) -> GpuHeadroom | None:
        if count > len(self.gpus):
            return None
        best = self.gpus
        if len(best) > 1:
            best = sorted(best, key=lambda gpu: gpu.free_mib / gpu.total_mib, reverse=True)
        if not self.groups:
            return best[count - 1]
        lasts = [seen[count - 1] for group in self._serving(queue) if len(seen := _seen(best, group)) >= count]
        return min(lasts, key=best.index, default=None)

    def gpus_for(
        self, needs: Needs, keep: float = 0.0, margin: Margin | None = None, queue: str = ""
    ) -> tuple[str, ...] | None:
        """Ids of the GPUs that ``needs`` would get: the fullest that still fit, so that whole ones stay whole.

        Of equal ones the last: other processes who choose none get the first, and who counts from there takes the next.
        A need of a GPU without a figure for its memory takes a GPU that no other load of ours is on. ``keep`` is the
        share of a GPU that must be left before the work goes there, ``margin`` what must be left afterwards. None if
        there are no such GPUs, or no workers who serve ``queue``, see them all and have room in their container.
        """
        if not needs.gpus and not self.groups:
            return ()
        fitting = [gpu for gpu in self.gpus if _gpu_fits(gpu, needs, keep, margin)] if needs.gpus else []
        if len(fitting) < needs.gpus:
            return None
        fitting.sort(key=lambda gpu: (gpu.free_mib, -gpu.index))
        if not self.groups:
            return _ids(fitting[: needs.gpus])
        sets = []
        for group in self._serving(queue):
            seen = _seen(fitting, group)[: needs.gpus]
            if len(seen) == needs.gpus and self._has_room(group, needs, _ids(seen)):
                sets.append(seen)
        best = min(sets, key=lambda seen: [fitting.index(gpu) for gpu in seen], default=None)
        return None if best is None else _ids(best)

    def fits(self, needs: Needs, keep: float = 0.0, margin: Margin | None = None, queue: str = "") -> bool:
        """Return whether one more piece with these needs has room now; ``keep`` and ``margin`` as in ``gpus_for``."""
        if (
            needs.cpu
            and _with_margin(margin, ("cpu", ""), to_millicores(needs.cpu), self.cpu_total) > self.cpu_millicores
        ):
            return False
        gpus = self.gpus_for(needs, keep, margin, queue)
        if gpus is None:
            return False
        memory = needs.memory_mib + self._shared(needs, gpus)
        return not memory or _with_margin(margin, ("memory", ""), memory, self.memory_total) <= self.memory_mib

    def container_fits(self, cpu_millicores: int, memory_mib: int, queue: str = "") -> bool:
        """Return whether the container of workers who serve ``queue`` has so much left, whatever the machine has."""
        able = (bound for group in self._serving(queue) for bound in self._bounds_of(group))
        return not self.bounds or any(bound.fits(cpu_millicores, memory_mib) for bound in able)

    def most_seen(self, gpus: Collection[str], queue: str) -> int:
        """Return how many of these GPUs any of the workers sees who serve ``queue``."""
        return most_seen(self.groups, gpus, queue) if self.groups else len(gpus)

    def _serving(self, queue: str) -> list[WorkerGroup]:
        return [group for group in self.groups if group.serves(queue)]

    def _bounds_of(self, group: WorkerGroup) -> Collection[Bound]:
        return [self.bounds[group.container]] if group.container in self.bounds else self.bounds.values()

    def _has_room(self, group: WorkerGroup, needs: Needs, gpus: Sequence[str]) -> bool:
        memory = needs.memory_mib + self._shared(needs, gpus)
        return not self.bounds or any(bound.fits(to_millicores(needs.cpu), memory) for bound in self._bounds_of(group))

    def take(self, needs: Needs, gpus: Sequence[str], queue: str = "") -> None:
        """Reserve ``needs`` on the GPUs with these ids."""
        self.cpu_millicores -= to_millicores(needs.cpu)
        memory = needs.memory_mib + self._shared(needs, gpus)
        self.memory_mib -= memory
        able = [group for group in self._serving(queue) if group.gpus is None or group.gpus.issuperset(gpus)]
        if bounds := [bound for group in able for bound in self._bounds_of(group)]:
            # Which worker takes it nobody knows: the fullest that it fits in keeps most for what is larger.
            fitting = [bound for bound in bounds if bound.fits(to_millicores(needs.cpu), memory)] or bounds
            bound = min(fitting, key=lambda bound: bound.cpu_millicores)
            bound.cpu_millicores -= to_millicores(needs.cpu)
            bound.memory_mib -= memory
        for gpu in self.gpus:
            is_taken = gpu.id in gpus
            gpu.allocations += is_taken
            if is_taken and not needs.gpu_memory_mib:
                gpu.free_mib = min(gpu.free_mib, 0)
            elif gpu.is_unified:
                gpu.free_mib = min(gpu.free_mib, self.memory_mib)
            elif is_taken:
                gpu.free_mib -= needs.gpu_memory_mib

    def _shared(self, needs: Needs, gpus: Sequence[str]) -> int:
        """MiB of the machine's memory that ``needs`` takes by way of GPUs that have none of their own."""
        return needs.gpu_memory_mib * sum(gpu.is_unified and gpu.id in gpus for gpu in self.gpus) if gpus else 0

    def copy(self) -> Headroom:
        gpus = [
            GpuHeadroom(gpu.id, gpu.index, gpu.free_mib, gpu.total_mib, gpu.allocations, gpu.is_unified)
            for gpu in self.gpus
        ]
        bounds = {key: Bound(bound.cpu_millicores, bound.memory_mib) for key, bound in self.bounds.items()}
        totals = (self.cpu_millicores, self.cpu_total, self.memory_mib, self.memory_total)
        return Headroom(self.node, *totals, gpus, bounds, self.groups)


def most_seen(groups: Iterable[WorkerGroup], gpus: Collection[str], queue: str) -> int:
    """How many of the GPUs with these ids any of ``groups`` sees that serves ``queue``: work runs in one worker."""
    serving = [group for group in groups if group.serves(queue)]
    return max((len(gpus) if one.gpus is None else len(one.gpus.intersection(gpus)) for one in serving), default=0)


def _seen(gpus: Sequence[GpuHeadroom], group: WorkerGroup) -> Sequence[GpuHeadroom]:
    return gpus if group.gpus is None else [gpu for gpu in gpus if gpu.id in group.gpus]


def _ids(gpus: Iterable[GpuHeadroom]) -> tuple[str, ...]:
    return tuple(gpu.id for gpu in sorted(gpus, key=lambda gpu: gpu.index))


def to_millicores(cores: float) -> int:
    """Thousandths of a core."""
    return round(cores * 1000)


def _with_margin(margin: Margin | None, resource: Resource, need: int, total: int) -> int:
    """``need`` and its margin; without the margin where both together could never fit, or it would wait forever."""
    wanted = need + margin.get(resource, 0) if margin else need
    return wanted if wanted <= total else need


def _gpu_fits(gpu: GpuHeadroom, needs: Needs, keep: float, margin: Margin | None) -> bool:
    if keep and Share(gpu.free_mib, gpu.total_mib, "gpu_memory").is_below(keep):
        return False
    if needs.gpu_memory_mib:
        return _with_margin(margin, ("gpu_memory", gpu.id), needs.gpu_memory_mib, gpu.total_mib) <= gpu.free_mib
    return gpu.allocations == 0 and gpu.free_mib > 0
