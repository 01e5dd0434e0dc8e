"""One sample of this machine: all probes together."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from statistics import median_low

from pause_manager.probes.cpu import CpuProbe
from pause_manager.probes.gpu import GpuProbe, GpuReading
from pause_manager.probes.memory import MemoryProbe, MemoryReading
from pause_manager.probes.own import OwnProcesses
from pause_manager.probes.pressure import PressureProbe
from pause_manager.samples import Sample
from pause_manager.views import GpuView, NodeView

STEADY_SAMPLES = 5
"""The middle one of so many is what strangers steadily use."""


class Sampler:
    """Takes samples; keeps descriptors, counters and the driver process in between. One a machine is enough."""

    def __init__(
        self, node: str, *, gpu_deadline_seconds: float = 2.0, with_gpus: bool = True, root: Path = Path("/")
    ) -> None:
        self._node = node
        self._cpu = CpuProbe(root, OwnProcesses(root))
        self._memory = MemoryProbe(root)
        self._pressure = PressureProbe(root)
        self._gpu = GpuProbe(gpu_deadline_seconds, root=root) if with_gpus else None
        self._foreign: deque[float] = deque(maxlen=STEADY_SAMPLES)

    def take(self, own_roots: frozenset[int], *, clock_offset: float = 0.0) -> Sample | None:
        """A sample since the last call; ``None`` the first time, when CPU time has nothing to be compared with.

        ``own_roots`` are the processes whose trees are ours. ``clock_offset`` is added to this machine's clock.
        """
        cpu = self._cpu.read(own_roots)
        pressure = self._pressure.read()
        # Asked the first time as well, so that the driver has answered when the first sample is due.
        own_pids = cpu.own_reading.pids if cpu is not None else frozenset[int]()
        gpus = self._gpu.read(own_pids) if self._gpu is not None else GpuReading(note="GPUs are not looked for")
        if cpu is None:
            return None
        memory = self._memory.read()
        cards = tuple(_with_memory(gpu, memory) for gpu in gpus.gpus)
        self._foreign.append(cpu.foreign)
        view = NodeView(
            name=self._node,
            sampled_at=round(time.time() + clock_offset, 3),
            cores=round(cpu.cores, 3),
            foreign_cores=round(cpu.foreign, 3),
            steady_foreign_cores=round(median_low(self._foreign), 3),
            memory_mib=memory.total_mib,
            free_memory_mib=memory.free_mib,
            own_memory_mib=cpu.own_reading.memory_mib + sum(gpu.own_mib for gpu in cards if gpu.is_unified),
            oom_kills=memory.oom_kills,
            gpus=cards,
            gpu_problem=gpus.problem,
            gpu_note=gpus.note,
        )
        return Sample(
            view=view,
            own_cores=round(cpu.own, 3),
            busy_cores=round(cpu.busy, 3),
            load_1m=cpu.load_1m,
            foreign_corrected_by=cpu.corrected_by,
            own_processes=len(cpu.own_reading.pids),
            pressure=pressure,
        )

    def close(self) -> None:
        """End the driver process."""
        if self._gpu is not None:
            self._gpu.close()


def _with_memory(gpu: GpuView, memory: MemoryReading) -> GpuView:
    """A GPU without memory of its own has the machine's."""
    if not gpu.is_unified or gpu.free_mib is None:
        return gpu
    return replace(gpu, total_mib=memory.total_mib, free_mib=memory.free_mib)
