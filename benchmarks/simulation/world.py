"""What a simulation is given: machines, our runs, and what other processes do. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pause_manager.capacity.needs import Needs

CPU = -1
MEMORY = -2
SENSOR = -3
"""The kind of a ``Change``; 0 and above is the GPU with that index."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node; all its GPUs have the same memory."""

    name: str
    cpu_millicores: int
    memory_mib: int
    gpus: int = 0
    gpu_mib: int = 0
    queues: frozenset[str] | None = None
    """What its workers serve; ``None``: every queue."""

    def serves(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


@dataclass(frozen=True, slots=True)
class Job:
    """One of our runs: one loop with these needs that has ``work`` seconds to run, in all its turns together."""

    name: str
    needs: Needs
    arrives: float
    work: float
    priority: int = 3
    queue: str = ""


class Change(NamedTuple):
    """From ``at`` on other processes use ``amount`` (thousandths of a core, or MiB) of one resource of one node.

    For ``SENSOR``: 0 the sensor works, 1 its GPUs cannot be read, 2 no sample comes at all.
    """

    at: float
    node: int
    kind: int
    amount: int


@dataclass(frozen=True)
class World:
    """``changes`` are in order of time; the figures are taken over the first ``horizon`` seconds."""

    name: str
    machines: list[Machine]
    jobs: list[Job]
    changes: list[Change]
    horizon: float
    notes: list[str] = field(default_factory=list)
