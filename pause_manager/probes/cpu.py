"""The CPU: how busy each one is, how much of it is ours, and how much of it we may use."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pause_manager.probes import cgroups
from pause_manager.probes.container_report import Limit
from pause_manager.probes.own_processes import OwnProcesses, OwnReading
from pause_manager.probes.proc_file import ProcFile

NEARLY_FULL_FROM = 0.7
"""From here on our own waiting is measured, so that it is known when the CPU is full."""
RUN_QUEUE_SECONDS = 3.0


@dataclass(frozen=True)
class CpuReading:
    """Cores, averaged since the last reading."""

    busy: tuple[float, ...]
    """Of each CPU of the machine, no matter who uses it."""
    cpus: int
    """The CPUs that this process may run on, a bit each."""
    limits: tuple[Limit, ...]
    """Of the control groups above this process."""
    own: OwnReading
    own_cores: float
    load_1m: float
    queue: float | None
    """Tasks of the machine that run or wait to, smoothed."""


@dataclass(frozen=True)
class _Counters:
    at: float
    busy_seconds: tuple[float, ...]
    group_seconds: tuple[float | None, ...]


class CpuProbe:
    """Reads CPU time of the machine, of each limited cgroup above us, and of our own process trees.

    What it means for a machine with several containers is told by ``merge``. Busy is all but idle and iowait (proc(5));
    what the hypervisor steals counts as used by other processes.
    """

    def __init__(self, root: Path = Path("/"), own: OwnProcesses | None = None) -> None:
        self._own = own or OwnProcesses(root)
        self._groups = _groups(root)
        self._load = ProcFile(root / "proc/loadavg")
        self._last: _Counters | None = None
        self._running: float | None = None
        self._was_busy = False

    def read(self, own_roots: frozenset[int]) -> CpuReading | None:
        """Averages since the last call; ``None`` the first time, when there is nothing to compare with."""
        # Own before all: what is used in between then looks foreign for a moment, and never the other way round.
        own = self._own.read(own_roots, with_waits=self._was_busy)
        each = tuple(_busy(times) for times in psutil.cpu_times(percpu=True))
        now = _Counters(time.monotonic(), each, tuple(group.used() for group in self._groups))
        last, self._last = self._last, now
        if last is None or now.at - last.at < 0.05:
            return None
        seconds = now.at - last.at
        busy = tuple(max(0.0, after - before) / seconds for after, before in zip(each, last.busy_seconds, strict=False))
        cpus = _affinity(len(busy))
        self._was_busy = busy_on(busy, cpus) >= NEARLY_FULL_FROM * cpus.bit_count()
        limits = []
        for group, used, before in zip(self._groups, now.group_seconds, last.group_seconds, strict=True):
            quota = group.quota()
            if quota is not None and used is not None and before is not None:
                limits.append(Limit(group.name, quota, (used - before) / seconds))
        load, queue = self._load_and_queue(seconds)
        return CpuReading(busy, cpus, tuple(limits), own, own.cpu_seconds / seconds, load, queue)

    def _load_and_queue(self, seconds: float) -> tuple[float, float | None]:
        """The load average of a minute; tasks that run or wait to, smoothed, without this one, which runs to look."""
        fields = (self._load.read() or "").split()
        if len(fields) < 4:
            return os.getloadavg()[0], None
        running = max(0.0, int(fields[3].partition("/")[0]) - 1.0)
        last = running if self._running is None else self._running
        self._running = last + min(1.0, seconds / RUN_QUEUE_SECONDS) * (running - last)
        return float(fields[0]), self._running


def busy_on(busy: Sequence[float], cpus: int) -> float:
    """Cores in use of ``cpus``, a bit each."""
    return sum(used for index, used in enumerate(busy) if cpus >> index & 1)


def _affinity(count: int) -> int:
    """The CPUs that this process may run on now: its owner may change them at any time."""
    if not hasattr(os, "sched_getaffinity"):
        return (1 << count) - 1
    return sum(1 << index for index in os.sched_getaffinity(0))


class _Group:
    """One level of the cpu controller (v1: cpu and cpuacct)."""

    def __init__(self, cpu: Path, accounting: Path, version: int) -> None:
        self.name = cgroups.name_of(cpu)
        self._version = version
        self._max = ProcFile(cpu / ("cpu.max" if version == 2 else "cpu.cfs_quota_us"))
        self._period = ProcFile(cpu / "cpu.cfs_period_us")
        self._usage = ProcFile(accounting / ("cpu.stat" if version == 2 else "cpuacct.usage"))

    def quota(self) -> float | None:
        """Cores; ``None`` if there is no limit."""
        if self._version == 2:
            quota, _, period = (self._max.read() or "max").partition(" ")
            return None if quota.strip() == "max" else int(quota) / int(period or 100_000)
        micros, period_micros = self._max.number(), self._period.number()
        return micros / period_micros if micros is not None and micros > 0 and period_micros else None

    def used(self) -> float | None:
        """Seconds of CPU that the group has used."""
        if self._version == 2:
            micros = self._usage.field("usage_usec")
            return None if micros is None else micros / 1e6
        nanos = self._usage.number()
        return None if nanos is None else nanos / 1e9


def _groups(root: Path) -> list[_Group]:
    found = cgroups.levels("cpu", root)
    accounting = found if found.version == 2 else cgroups.levels("cpuacct", root)
    pairs = zip(found.paths, accounting.paths, strict=False)
    return [_Group(cpu, usage, found.version) for cpu, usage in pairs]


def _busy(times: Any) -> float:
    # guest time is in user time as well
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle)
