"""What the capacity policy looks at: nodes, their GPUs, and the work of ours that they carry. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from pause_manager.needs import Needs


@dataclass(frozen=True)
class GpuView:
    """One GPU at one time. Figures that could not be read are ``None`` and ``problem`` says why."""

    index: int
    total_mib: int
    free_mib: int | None
    own_mib: int = 0
    """Memory that our own processes show in the driver's process list."""
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
    mig_of: int | None = None
    """The card that this MIG device is a part of. Its index is then 100 x (that card's index + 1) + its number."""


@dataclass(frozen=True)
class Load:
    """A piece of our own work on a node: a live lease, or a dispatch just sent that will become one."""

    ref: str
    needs: Needs
    started_at: float
    """Seconds since the epoch, by the database's clock."""
    priority: int = 3
    """1 goes first, 5 yields first."""
    gpus: tuple[int, ...] = ()
    is_sent: bool = False
    """Sent but not started: it counts like a lease, and cannot yield."""
    can_yield: bool = True
    """Whether it asks if it should stop. What never asks counts, and is left alone."""
    queue: str = ""
    """The queue whose workers do it; empty: it is not known."""
    piece: str = ""
    """What it is a part of, of which nothing moves twice within the cooldown; empty: it is a piece of its own."""
    works_since: float | None = None
    """Since when that has been at work, if longer than this part of it."""
    repeats_seconds: float = 0.0
    """Work that would have to be done again if it left now: the price of moving it."""


@dataclass(frozen=True)
class NodeView:
    """One node at one time: its latest sample and the loads it carries."""

    name: str
    sampled_at: float
    """Seconds since the epoch."""
    cores: float
    """Cores that our processes may use: the cgroup's limit if there is one."""
    foreign_cores: float
    """Cores that strangers use or, on a full CPU, want; never what our own processes burn."""
    memory_mib: int
    free_memory_mib: int
    own_memory_mib: int = 0
    gpus: tuple[GpuView, ...] = ()
    gpu_problem: str = ""
    """Why the GPUs cannot be read at all (no answer from the driver); empty if they can, or if there are none."""
    loads: tuple[Load, ...] = field(default=())
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
    """Processes of our control group that the kernel has killed for want of memory, since the group was made."""
    queues: frozenset[str] | None = None
    """What the live workers there serve, held or not; ``None``: nobody has said."""

    @property
    def counted_foreign_cores(self) -> float:
        """What new work counts with. A spike of a second or two keeps none away."""
        return self.foreign_cores if self.steady_foreign_cores is None else self.steady_foreign_cores

    def serves(self, queue: str) -> bool:
        """Whether work of ``queue`` can run there; empty: of any."""
        return not queue or self.queues is None or queue in self.queues
