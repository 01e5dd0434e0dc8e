"""Memory: what the machine has and what the control groups allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from pause_manager.probes import cgroups
from pause_manager.probes.kept_file import KeptFile
from pause_manager.reports import Limit

MIB = 1 << 20


@dataclass(frozen=True)
class MemoryReading:
    """MiB of the machine, and free now, whoever may use them."""

    total_mib: int
    free_mib: int
    limits: tuple[Limit, ...] = ()
    """Of the control groups above this process."""
    oom_kills: int = 0
    """Processes of our control group, and those below it, that the kernel has killed for want of memory."""


class MemoryProbe:
    """Reads the machine and each limited cgroup above this process.

    Of a group, used = usage - inactive page cache: the working set as the kubelet computes it, since the
    kernel drops inactive cache before it refuses memory. Of the machine, free = MemAvailable (proc(5)). v2's
    ``memory.high``, above which the kernel throttles, counts as a limit.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        found = cgroups.levels("memory", root)
        self._groups = [_Group(path, found.version) for path in found.paths]
        # Of our own group only: who was killed further up may be anybody's.
        self._events = [
            KeptFile(path / ("memory.events" if found.version == 2 else "memory.oom_control"))
            for path in found.paths[:1]
        ]

    def read(self) -> MemoryReading:
        machine = psutil.virtual_memory()
        limits = [
            Limit(group.name, limit / MIB, group.working_set() / MIB)
            for group in self._groups
            if (limit := group.limit()) is not None and limit < machine.total
        ]
        kills = sum(file.field("oom_kill") or 0 for file in self._events)
        return MemoryReading(machine.total // MIB, machine.available // MIB, tuple(limits), kills)


class _Group:
    def __init__(self, path: Path, version: int) -> None:
        self.name = cgroups.name_of(path)
        names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
        self._limits = [KeptFile(path / name) for name in names]
        self._usage = KeptFile(path / ("memory.current" if version == 2 else "memory.usage_in_bytes"))
        self._stat = KeptFile(path / "memory.stat")
        self._cache = "inactive_file" if version == 2 else "total_inactive_file"

    def limit(self) -> int | None:
        """Bytes; ``None`` if there is no limit. v1 says no limit with a number larger than any machine."""
        return min((limit for file in self._limits if (limit := file.number()) is not None), default=None)

    def working_set(self) -> int:
        return max(0, (self._usage.number() or 0) - (self._stat.field(self._cache) or 0))
