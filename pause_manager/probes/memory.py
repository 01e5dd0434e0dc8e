"""Memory: what the machine has and what the control groups allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from pause_manager.probes import cgroups
from pause_manager.probes.kept_file import KeptFile

MIB = 1 << 20


@dataclass(frozen=True)
class MemoryReading:
    """MiB that our processes may use in all, and that are free for them now."""

    total_mib: int
    free_mib: int
    oom_kills: int = 0
    """Processes of our control group, and those below it, that the kernel has killed for want of memory."""


class MemoryProbe:
    """Reads the machine and each limited cgroup above this process; the tightest decides.

    Of a group, free = limit - (usage - inactive page cache): the working set as the kubelet computes it, since the
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
        total, free = machine.total, machine.available
        for group in self._groups:
            limit = group.limit()
            if limit is not None and limit < machine.total:
                total = min(total, limit)
                free = min(free, max(0, limit - group.working_set()))
        kills = sum(file.field("oom_kill") or 0 for file in self._events)
        return MemoryReading(total // MIB, free // MIB, kills)


class _Group:
    def __init__(self, path: Path, version: int) -> None:
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
