"""What one container sees: its own report, and the machine round it. The one that speaks makes the sample of both."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median_low

from pause_manager.probes import processes
from pause_manager.probes.container_report import Report
from pause_manager.probes.cpu import CpuProbe
from pause_manager.probes.gpu.probe import GpuProbe, GpuReading
from pause_manager.probes.memory import MemoryProbe
from pause_manager.probes.merge import MachineReading, merged
from pause_manager.probes.own_processes import OwnProcesses
from pause_manager.probes.pressure import PressureProbe
from pause_manager.probes.sample import Sample

STEADY_SAMPLES = 5
"""The middle one of this number of samples is what other processes steadily use."""


class Sampler:
    """Takes readings; keeps descriptors, counters and the driver process in between. One a container is enough."""

    def __init__(self, *, gpu_deadline_seconds: float = 2.0, with_gpus: bool = True, root: Path = Path("/")) -> None:
        self._cpu = CpuProbe(root, OwnProcesses(root))
        self._memory = MemoryProbe(root)
        self._pressure = PressureProbe(root)
        self._gpu = GpuProbe(gpu_deadline_seconds, root=root) if with_gpus else None
        self._foreign: dict[str, deque[float]] = {}
        """By container, and of the whole machine under no name."""
        self._machine: MachineReading | None = None
        self._kills: dict[str, int] = {}
        self._killed: int | None = None

    def read(self, own_roots: frozenset[int]) -> Report | None:
        """Return what this container used since the last call; ``None`` the first time: nothing to compare with.

        ``own_roots`` are the processes whose trees are ours.
        """
        cpu = self._cpu.read(own_roots)
        pressure = self._pressure.read()
        # Asked the first time as well, so that the driver has answered when the first report is due.
        own_pids = cpu.own.pids if cpu is not None else frozenset[int]()
        gpus = self._gpu.read(own_pids) if self._gpu is not None else GpuReading(note="GPUs are not looked for")
        if cpu is None:
            return None
        memory = self._memory.read()
        self._machine = MachineReading(cpu.busy, cpu.load_1m, cpu.queue, memory.total_mib, memory.free_mib, pressure)
        return Report(
            container=processes.container(),
            label=processes.host_name(),
            cpus=cpu.cpus,
            own_cores=round(cpu.own_cores, 3),
            own_memory_mib=cpu.own.memory_mib,
            own_processes=len(cpu.own.pids),
            wait_factor=round(cpu.own.wait_factor, 3),
            cpu_limits=cpu.limits,
            memory_limits=memory.limits,
            oom_kills=memory.oom_kills,
            gpus=gpus.gpus,
            gpu_problem=gpus.problem,
            gpu_note=gpus.note,
        )

    def sample(self, name: str, reports: Iterable[Report], *, clock_offset: float = 0.0) -> Sample:
        """The sample of the machine called ``name``, as it was when this container last read it.

        ``reports`` are those of all its containers. ``clock_offset`` is added to this machine's clock.
        """
        assert self._machine is not None, "read first"
        reports = list(reports)
        sample = merged(name, time.time() + clock_offset, self._machine, reports)
        steady = {"": sample.view.foreign_cores} | {one.key: one.foreign_cores for one in sample.view.containers}
        self._foreign = {
            whose: deque([*self._foreign.get(whose, ()), foreign], maxlen=STEADY_SAMPLES)
            for whose, foreign in steady.items()
        }
        middle = {whose: round(median_low(last), 3) for whose, last in self._foreign.items()}
        view = replace(
            sample.view,
            steady_foreign_cores=middle[""],
            oom_kills=self._kills_of(reports),
            containers=tuple(replace(one, foreign_cores=middle[one.key]) for one in sample.view.containers),
        )
        return replace(sample, view=view)

    def close(self) -> None:
        """End the driver process."""
        if self._gpu is not None:
            self._gpu.close()

    def _kills_of(self, reports: Iterable[Report]) -> int:
        """Kills for want of memory. A container that comes brings those of its past along: they are no news."""
        now = {report.container: report.oom_kills for report in reports}
        if self._killed is None:
            self._killed = sum(now.values())
        else:
            self._killed += sum(
                max(0, kills - self._kills[container]) for container, kills in now.items() if container in self._kills
            )
        self._kills = now
        return self._killed
