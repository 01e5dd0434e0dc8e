"""The CPU: how many cores we may use, how many we use, and how many strangers use or want."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pause_manager.probes import cgroups
from pause_manager.probes.kept_file import KeptFile
from pause_manager.probes.own import OwnProcesses, OwnReading

FULL_FROM = 0.95
"""From this share of busy cores on, what a process gets is not what it wants."""
NEARLY_FULL_FROM = 0.7
"""From here on our own waiting is measured, so that it is known when the CPU is full."""
RUN_QUEUE_SECONDS = 3.0


@dataclass(frozen=True)
class CpuReading:
    """Cores, averaged since the last reading."""

    cores: float
    foreign: float
    own: float
    busy: float
    """Of the cores of the machine that we may run on, whoever uses them."""
    load_1m: float
    corrected_by: str
    """How ``foreign`` was raised from what strangers get to what they want; empty when the CPU was not full."""
    own_reading: OwnReading


@dataclass(frozen=True)
class _Counters:
    at: float
    busy_seconds: float
    group_seconds: tuple[float | None, ...]


class CpuProbe:
    """Reads CPU time of the machine, of each limited cgroup above us, and of our own process trees.

    cores    = min(cores in the affinity mask, tightest quota / period of the cgroups above us)
    machine: foreign_m = busy on the cores of the mask - own, room_m = mask - foreign_m
    group g: foreign_g = usage of g - own,                    room_g = quota of g - foreign_g
    foreign  = cores - min(room_m, room_g…), from 0 to cores

    So a stranger on a large host costs a small container nothing until it reaches the container's cores; what the
    hypervisor steals counts as a stranger's. Busy is all but idle and iowait (proc(5)).

    On a full CPU strangers get less than they want. Under fair scheduling everybody waits in proportion, so their
    demand is what they get x our own stretch (own.py: run-queue wait of our threads), and at most the run queue
    (running tasks of /proc/loadavg, smoothed) less our own part of it. With only our own load foreign is near 0, and
    so is its product: own load never looks foreign.
    """

    def __init__(self, root: Path = Path("/"), own: OwnProcesses | None = None) -> None:
        self._own = own or OwnProcesses(root)
        self._mask = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._all = psutil.cpu_count() or 1
        self._groups = _groups(root)
        self._load = KeptFile(root / "proc/loadavg")
        self._last: _Counters | None = None
        self._running: float | None = None
        self._was_busy = False

    def read(self, own_roots: frozenset[int]) -> CpuReading | None:
        """Averages since the last call; ``None`` the first time, when there is nothing to compare with."""
        # Own before all: what is used in between then looks foreign for a moment, and never the other way round.
        own = self._own.read(own_roots, with_waits=self._was_busy)
        now = _Counters(time.monotonic(), self._busy_seconds(), tuple(group.used() for group in self._groups))
        last, self._last = self._last, now
        if last is None or now.at - last.at < 0.05:
            return None
        seconds = now.at - last.at
        mask = float(len(self._mask) or self._all)
        own_cores = own.cpu_seconds / seconds
        busy = min(mask, (now.busy_seconds - last.busy_seconds) / seconds)
        is_full = busy >= FULL_FROM * mask
        self._was_busy = busy >= NEARLY_FULL_FROM * mask
        foreign, corrected_by = max(0.0, busy - own_cores), ""
        load, queue = self._load_and_queue(seconds)
        if is_full and own.stretch > 1 and foreign > 0:
            runnable = mask if queue is None else max(foreign, queue - own_cores * own.stretch)
            foreign, corrected_by = min(foreign * own.stretch, runnable), "run queue"
        cores, room = mask, mask - foreign
        for group, used, before in zip(self._groups, now.group_seconds, last.group_seconds, strict=True):
            quota = group.quota()
            if quota is not None and used is not None and before is not None:
                cores = min(cores, quota)
                room = min(room, quota - max(0.0, (used - before) / seconds - own_cores))
        foreign = min(cores, max(0.0, cores - room))
        return CpuReading(cores, foreign, own_cores, busy, load, corrected_by, own)

    def _busy_seconds(self) -> float:
        if self._mask and len(self._mask) < self._all:
            every = psutil.cpu_times(percpu=True)
            return sum(_busy(every[index]) for index in self._mask if index < len(every))
        return _busy(psutil.cpu_times())

    def _load_and_queue(self, seconds: float) -> tuple[float, float | None]:
        """The load average of a minute; tasks that run or wait to, smoothed, without this one, which runs to look."""
        fields = (self._load.read() or "").split()
        if len(fields) < 4:
            return os.getloadavg()[0], None
        running = max(0.0, int(fields[3].partition("/")[0]) - 1.0)
        last = running if self._running is None else self._running
        self._running = last + min(1.0, seconds / RUN_QUEUE_SECONDS) * (running - last)
        return float(fields[0]), self._running


class _Group:
    """One level of the cpu controller (v1: cpu and cpuacct)."""

    def __init__(self, cpu: Path, accounting: Path, version: int) -> None:
        self._version = version
        self._max = KeptFile(cpu / ("cpu.max" if version == 2 else "cpu.cfs_quota_us"))
        self._period = KeptFile(cpu / "cpu.cfs_period_us")
        self._usage = KeptFile(accounting / ("cpu.stat" if version == 2 else "cpuacct.usage"))

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
