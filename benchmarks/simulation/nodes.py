"""A simulated node: what is on it, and the view of it that a sensor would give."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.simulation.world import CPU, MEMORY, SENSOR, Change, Job, Machine
from pause_manager.capacity import NodeState, Policy
from pause_manager.capacity.node_headroom import beyond_noise
from pause_manager.capacity.snapshot import Allocation, GpuView, NodeView, WorkerGroup

_ALWAYS_FRESH = float("inf")


class Turn:
    """One stretch of a job on a node, from its start until it ends or has yielded."""

    __slots__ = ("allocation", "gpus", "is_moving", "is_resumed", "is_yielding", "job", "since", "version")

    def __init__(self, job: int, allocation: Allocation, since: float, *, is_resumed: bool, version: int) -> None:
        self.job = job
        self.allocation = allocation
        self.since = since
        self.gpus = allocation.gpus
        self.is_resumed = is_resumed
        self.is_yielding = False
        self.is_moving = False
        self.version = version


class SimNode:
    """The truth about one node. ``view`` is what is known of it."""

    def __init__(self, number: int, machine: Machine) -> None:
        self.number = number
        self.machine = machine
        self.workers = None if machine.queues is None else (WorkerGroup(machine.queues),)
        self.foreign_cpu = 0
        self.foreign_memory = 0
        self.foreign_gpus = [0] * machine.gpus
        self.sensor = 0
        self.lost_at = 0.0
        self.changed_at = -1.0
        self.turns: dict[str, Turn] = {}
        self.state = NodeState()
        self.judged_at = -1.0
        self.over_since: float | None = None
        self._view: NodeView | None = None
        self._last_seen: NodeView | None = None

    @property
    def view(self) -> NodeView:
        """The sensor's figures. A sensor that fell silent keeps giving its last ones, with their age."""
        if self._view is None:
            self._view = self._blind() if self.sensor == 2 else self._look()
        return self._view

    def change(self, change: Change) -> None:
        if change.kind == SENSOR:
            if change.amount == 2 and self.sensor != 2:
                self._last_seen, self.lost_at = self.view, change.at
            self.sensor = change.amount
        elif change.kind == CPU:
            self.foreign_cpu = change.amount
        elif change.kind == MEMORY:
            self.foreign_memory = change.amount
        else:
            self.foreign_gpus[change.kind] = change.amount
        self.changed_at = change.at
        self._view = None

    def start(self, turn: Turn) -> None:
        self.turns[turn.allocation.ref] = turn
        self._view = None

    def end(self, ref: str) -> Turn:
        self._view = None
        return self.turns.pop(ref)

    def overdrawn(self, policy: Policy) -> list[int]:
        """The resources of which other processes and our loops together need more than there is; noise needs none."""
        found = []
        cpu = memory = 0
        gpus = [0] * self.machine.gpus
        for turn in self.turns.values():
            needs = turn.allocation.needs
            cpu += round(needs.cpu * 1000)
            memory += needs.memory_mib
            for gpu in turn.gpus:
                gpus[int(gpu)] += needs.gpu_memory_mib
        if (
            cpu
            and cpu + beyond_noise(self.foreign_cpu, self.machine.cpu_millicores, policy) > self.machine.cpu_millicores
        ):
            found.append(CPU)
        if memory and memory + self.foreign_memory > self.machine.memory_mib:
            found.append(MEMORY)
        found += [
            index for index, mine in enumerate(gpus) if mine and mine + self.foreign_gpus[index] > self.machine.gpu_mib
        ]
        return found

    def _look(self) -> NodeView:
        allocations = tuple(turn.allocation for turn in self.turns.values())
        memory = sum(allocation.needs.memory_mib for allocation in allocations)
        return NodeView(
            name=self.machine.name,
            sampled_at=_ALWAYS_FRESH,
            cores=self.machine.cpu_millicores / 1000,
            foreign_cores=self.foreign_cpu / 1000,
            memory_mib=self.machine.memory_mib,
            free_memory_mib=max(0, self.machine.memory_mib - self.foreign_memory - memory),
            own_memory_mib=min(memory, max(1, self.machine.memory_mib - self.foreign_memory)),
            gpus=self._gpus(allocations),
            gpu_problem="the driver does not answer" if self.sensor == 1 else "",
            allocations=allocations,
            workers=self.workers,
        )

    def _gpus(self, allocations: Sequence[Allocation]) -> tuple[GpuView, ...]:
        if not self.machine.gpus:
            return ()
        total = self.machine.gpu_mib
        own = [0] * self.machine.gpus
        for allocation in allocations:
            for gpu in allocation.gpus:
                own[int(gpu)] += allocation.needs.gpu_memory_mib
        views = []
        for index, foreign in enumerate(self.foreign_gpus):
            shown = min(own[index], max(1, total - foreign))
            views.append(GpuView(index, total, max(0, total - foreign - own[index]), own_mib=shown, uuid=str(index)))
        return tuple(views)

    def _blind(self) -> NodeView:
        seen = self._last_seen or self._look()
        return NodeView(
            name=seen.name,
            sampled_at=self.lost_at,
            cores=seen.cores,
            foreign_cores=seen.foreign_cores,
            memory_mib=seen.memory_mib,
            free_memory_mib=seen.free_memory_mib,
            own_memory_mib=seen.own_memory_mib,
            gpus=seen.gpus,
            allocations=tuple(turn.allocation for turn in self.turns.values()),
            workers=self.workers,
        )


def allocation_of(job: Job, now: float, gpus: tuple[str, ...], item_seconds: float) -> Allocation:
    """The load of a turn. To move it costs one item."""
    return Allocation(job.name, job.needs, now, job.priority, gpus, queue=job.queue, repeats_seconds=item_seconds)
