"""Memory: what the machine has and what the control groups allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pause_manager.probes import cgroups
from pause_manager.probes.container_report import Limit
from pause_manager.probes.proc_file import ProcFile

MIB = 1 << 20
CACHE_FLOOR = 0.02
"""So much of a limit is left to the page cache: code that runs is in it."""
PRESSED_PERCENT = 10.0
"""From this share of the time on, in which work waits for memory, the cache is in use."""


@dataclass(frozen=True)
class MemoryReading:
    """MiB of the machine, and free now, no matter who may use them."""

    total_mib: int
    free_mib: int
    limits: tuple[Limit, ...] = ()
    """Of the control groups above this process."""
    oom_kills: int = 0
    """Processes of our control group, and those below it, that the kernel has killed for want of memory."""


class MemoryProbe:
    """Reads the machine and each limited cgroup above this process.

    Of a group, used = usage - page cache and reclaimable slab above a floor: the kernel drops them before it
    refuses memory, and a group that reads files fills itself with them. Of the machine, free = MemAvailable (proc(5)) +
    what ZFS's cache (ARC) has above its minimum, which the kernel counts as used. Where memory is pressed (PSI), that
    cache is in use: then only what is inactive counts of a group, and what nobody has of the machine. v2's
    ``memory.high``, above which the kernel throttles, counts as a limit.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        found = cgroups.levels("memory", root)
        self._groups = [_Group(path, found.version) for path in found.paths]
        self._pressure = ProcFile(root / "proc/pressure/memory")
        self._arc = ProcFile(root / "proc/spl/kstat/zfs/arcstats")
        # Of our own group only: who was killed further up may be anybody's.
        self._events = [
            ProcFile(path / ("memory.events" if found.version == 2 else "memory.oom_control"))
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
        free = self._free(machine.available, machine.free)
        return MemoryReading(machine.total // MIB, free // MIB, tuple(limits), kills)

    def _free(self, available: int, unused: int) -> int:
        # Of the whole machine only "full" tells: in "some" is any group that has reached a limit of its own.
        if pressed(self._pressure.read(), "full"):
            return unused
        figures = dict(_kstat(self._arc.read()))
        return available + max(0, figures.get("size", 0) - figures.get("c_min", 0))


class _Group:
    def __init__(self, path: Path, version: int) -> None:
        self.name = cgroups.name_of(path)
        names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
        self._limits = [ProcFile(path / name) for name in names]
        self._usage = ProcFile(path / ("memory.current" if version == 2 else "memory.usage_in_bytes"))
        self._stat = ProcFile(path / "memory.stat")
        self._pressure = ProcFile(path / "memory.pressure")
        self._total = "" if version == 2 else "total_"

    def limit(self) -> int | None:
        """Bytes; ``None`` if there is no limit. v1 says no limit with a number larger than any machine."""
        return min((limit for file in self._limits if (limit := file.number()) is not None), default=None)

    def working_set(self) -> int:
        """Bytes that the kernel could not drop without harm."""
        stat = dict(_numbers(self._stat.read()))
        inactive = stat.get(f"{self._total}inactive_file", 0)
        cache = inactive + stat.get(f"{self._total}active_file", 0) + stat.get("slab_reclaimable", 0)
        spare = inactive
        if not pressed(self._pressure.read(), "some"):
            spare = max(inactive, cache - round(CACHE_FLOOR * (self.limit() or 0)))
        return max(0, (self._usage.number() or 0) - spare)


def pressed(pressure: str | None, kind: str) -> bool:
    """Whether, by a file of PSI, work has waited for memory, some of it or all (``full``), in the last ten seconds."""
    for line in (pressure or "").splitlines():
        which, *figures = line.split()
        if which == kind:
            return float(dict(figure.split("=") for figure in figures)["avg10"]) >= PRESSED_PERCENT
    return False


def _numbers(text: str | None) -> Iterator[tuple[str, int]]:
    """Of lines ``name number``."""
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            yield name, int(value)


def _kstat(text: str | None) -> Iterator[tuple[str, int]]:
    """Of lines ``name type number``."""
    for line in (text or "").splitlines():
        name, _, value = " ".join(line.split()).rpartition(" ")
        if value.isdecimal():
            yield name.partition(" ")[0], int(value)
