"""The input of the capacity policy: nodes, their GPUs, and our work on them. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from pause_manager.capacity.needs import Needs


@dataclass(frozen=True)
class Gpu:
    """A GPU that a loop or task was given."""

    uuid: str
    """What ``CUDA_VISIBLE_DEVICES`` takes; of a MIG device, that device's."""
    index: int | None = None
    """As ``nvidia-smi`` numbers it now (of a MIG device, its card). CUDA may number it otherwise: go by ``uuid``."""
    name: str = ""
    memory_mib: int = 0
    """In all, no matter who uses it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a message; ``Gpu(**values)`` is the same again."""
        return asdict(self)


@dataclass(frozen=True)
class GpuView:
    """One GPU at one time. Figures that could not be read are ``None`` and ``problem`` says why."""

    index: int
    """As the driver numbers them now; another card may have it after a reboot, or after one was lost. See ``id``."""
    total_mib: int
    free_mib: int | None
    own_mib: int = 0
    """Memory that our own processes show in the driver's process list."""
    idle_mib: int = 0
    """What of it is no load's doing, see ``NodeView.idle_at``."""
    utilisation: float | None = None
    """0 to 1, of everybody."""
    name: str = ""
    uuid: str = ""
    temperature_c: int | None = None
    problem: str = ""
    """Why no new work may go there: lost, ECC errors, driver silent; empty if it is fine."""
    processes: int = 0
    """Processes that the driver lists, of everybody."""
    own_processes: int = 0
    mig_of: str | None = None
    """The id of the card that this MIG device is a part of. Its index is 100 x (that card's index + 1) + its number."""
    is_unified: bool = False
    """It has no memory of its own: its figures are those of the machine's memory, and both are one pool."""
    note: str = ""
    """What is not known of it, though it takes work."""

    @property
    def id(self) -> str:
        """Return what it is booked by: its UUID; its index where nobody knows that."""
        return self.uuid or str(self.index)


@dataclass(frozen=True)
class ContainerView:
    """A container of a node with workers of ours, and how far it may go where that is not all of the machine."""

    key: str
    label: str
    """What people call it: the host name in it."""
    own_cores: float = 0.0
    own_memory_mib: int = 0
    cores: float | None = None
    """Cores that its workers may use; ``None``: those of the machine."""
    foreign_cores: float = 0.0
    """What other processes steadily use of them, where the limit counts them in."""
    memory_mib: int | None = None
    free_memory_mib: int | None = None
    gpus: tuple[str, ...] = ()
    """The ids of the GPUs that it sees."""
    gpu_numbers: tuple[int, ...] = ()
    """And how its driver numbers them."""

    @property
    def is_bounded(self) -> bool:
        """Return whether it may use less than the machine."""
        return self.cores is not None or self.memory_mib is not None


@dataclass(frozen=True)
class WorkerGroup:
    """Live workers of one container that serve the same queues and may use the same GPUs. Work runs in one of them."""

    queues: frozenset[str] | None = None
    """What they serve, held or not; ``None``: they do not tell."""
    gpus: frozenset[str] | None = None
    """The ids of the GPUs that each of them may use; ``None``: all of the machine's."""
    container: str = ""
    """The key of theirs, if it is known."""

    def serves(self, queue: str) -> bool:
        """Return whether work of ``queue`` can run in them; empty: of any."""
        return not queue or self.queues is None or queue in self.queues


@dataclass(frozen=True)
class Allocation:
    """A piece of our own work on a node: a live lease, or a dispatch just sent that will become one."""

    ref: str
    needs: Needs
    started_at: float
    """Seconds since the epoch, by the database's clock."""
    priority: int = 3
    """1 goes first, 5 yields first."""
    gpus: tuple[str, ...] = ()
    """Ids of the GPUs it was given."""
    is_sent: bool = False
    """Sent but not started: it counts like a lease, and cannot yield."""
    can_yield: bool = True
    """Whether it asks if it should stop. What never asks counts, and is left alone."""
    can_move: bool = True
    """Whether it resumes elsewhere once it has left."""
    container: str = ""
    """The key of the container whose worker has it, if it is known."""
    queue: str = ""
    """The queue whose workers do it; empty: it is not known."""
    policy: str = ""
    """The name of the policy that it goes by: its pipeline's; empty: the fleet's, or it is not known."""
    piece: str = ""
    """What it is a part of, of which nothing moves twice within the cooldown; empty: it is a piece of its own."""
    works_since: float | None = None
    """Since when that has been running, if longer than this part of it."""
    repeats_seconds: float = 0.0
    """Work that would have to be done again if it left now: the price of moving it."""


@dataclass(frozen=True)
class NodeView:
    """One node, which is one machine, at one time: its latest sample and the loads it carries."""

    name: str
    sampled_at: float
    """Seconds since the epoch."""
    cores: float
    """Cores that our processes may use: what the limits of all containers leave of the machine's."""
    foreign_cores: float
    """Cores that other processes use or, on a full CPU, want; never what our own processes burn."""
    memory_mib: int
    free_memory_mib: int
    own_memory_mib: int = 0
    idle_memory_mib: int = 0
    """What of it is no load's doing: idle processes, and what they keep of work that has ended."""
    idle_at: float | None = None
    """When that was measured, seconds since the epoch; what started later counts in full. ``None``: it was not."""
    gpus: tuple[GpuView, ...] = ()
    gpu_problem: str = ""
    """Why the GPUs cannot be read at all (no answer from the driver); empty if they can, or if there are none."""
    gpu_note: str = ""
    """Why there are no GPUs, or none that may be used."""
    allocations: tuple[Allocation, ...] = field(default=())
    is_online: bool = True
    pause_below: float | None = None
    """The node's own threshold, where an operator has set one."""
    threshold_moved_by: float = 0.0
    """How far the adaptive mode has moved the threshold here; an operator's own wins."""
    pause_below_reason: str = ""
    """Why it has one, for people: ``raised after 2 contentions within 600 s: from 20% to 25%``."""
    steady_foreign_cores: float | None = None
    """``foreign_cores`` without spikes: the middle of the last five samples; None if it is not known."""
    oom_kills: int = 0
    """Processes of our control groups that the kernel has killed for want of memory, since they were made."""
    containers: tuple[ContainerView, ...] = ()
    """Those with workers of ours, by label."""
    workers: tuple[WorkerGroup, ...] | None = None
    """The live workers there; ``None``: nobody has said."""

    def carrying(self, allocations: Iterable[Allocation]) -> NodeView:
        """This node with ``loads``. What started before GPUs were booked by UUID named their indices."""
        ids = {str(gpu.index): gpu.id for gpu in self.gpus if gpu.uuid and gpu.free_mib is not None}
        return replace(
            self,
            allocations=tuple(_named(allocation, ids) if allocation.gpus else allocation for allocation in allocations),
        )

    def memory_mib_of(self, allocation: Allocation) -> int:
        """The machine's memory that ``allocation`` declared here, and on GPUs that have none of their own."""
        if not allocation.gpus or not self._unified:
            return allocation.needs.memory_mib
        return (
            allocation.needs.memory_mib
            + len(self._unified.intersection(allocation.gpus)) * allocation.needs.gpu_memory_mib
        )

    @cached_property
    def _unified(self) -> frozenset[str]:
        return frozenset(gpu.id for gpu in self.gpus if gpu.is_unified)

    @property
    def counted_foreign_cores(self) -> float:
        """Return what new work counts with. A spike of a second or two keeps none away."""
        return self.foreign_cores if self.steady_foreign_cores is None else self.steady_foreign_cores

    def serves(self, queue: str) -> bool:
        """Return whether a live worker there serves ``queue``; empty: any does."""
        return not queue or self.workers is None or any(group.serves(queue) for group in self.workers)

    @property
    def groups(self) -> tuple[WorkerGroup, ...]:
        """Return who may take work; as long as nobody has said: anybody in its containers, if those are known."""
        if self.workers is not None or not self.containers:
            return self.workers or ()
        ids = {gpu.id for gpu in self.gpus}
        return tuple(
            WorkerGroup(None, None if ids <= {*one.gpus} else frozenset(one.gpus), one.key) for one in self.containers
        )


def _named(allocation: Allocation, ids: Mapping[str, str]) -> Allocation:
    if not any(gpu in ids for gpu in allocation.gpus):
        return allocation
    return replace(allocation, gpus=tuple(ids.get(gpu, gpu) for gpu in allocation.gpus))
