"""Our own processes: the trees below the workers of this machine and below the supervisor, and what they use.

What is ours stays ours: a process whose parent died is still counted, so a worker that lost its pool is not foreign.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pause_manager.probes.proc_file import LARGEST_BYTES

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RESCAN_READS = 30
MOST_THREADS = 512
SHARES_A_READ = 2
"""Of this many processes a read learns what they share with each other: the kernel walks all their pages for it."""
LARGEST_TO_WALK = 4 << 30
"""Bytes; what is larger is taken not to share what counts."""


@dataclass(frozen=True)
class OwnReading:
    """What our processes did since the last reading."""

    pids: frozenset[int]
    cpu_seconds: float
    """Processor time, that of ended children included."""
    memory_mib: int
    """Resident memory less what is shared with files. Pages that children share with the parent that forked them are
    counted once between them (PSS), as far as that is known of each."""
    wait_factor: float
    """(time running + time waiting for a CPU) / time running, of our threads; 1 when they did not wait."""


@dataclass(frozen=True)
class _Stat:
    parent: int
    cpu_ticks: int
    """Own and of ended, waited-for children: when a child ends, its time moves up to its parent."""
    threads: int
    started: bytes


class OwnProcesses:
    """Follows our process trees through /proc, cheaply: of each process that is not ours, one file is read once."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = str(root / "proc")
        self._roots: frozenset[int] = frozenset()
        self._others: set[int] = set()
        self._own: dict[int, _Stat] = {}
        self._waits: dict[str, tuple[int, int]] = {}
        self._shared: dict[int, int] = {}
        """Bytes that a process has of pages that are counted in others; those that were looked at longest ago first."""
        self._reads = 0

    def read(self, roots: Iterable[int], *, with_waits: bool = False) -> OwnReading:
        """What the trees of ``roots`` have done since the last call. ``with_waits`` costs a file a thread more."""
        self._follow(frozenset(roots))
        ticks, now = 0, {}
        for pid, before in self._own.items():
            stat = self._stat(pid)
            if stat is None or stat.started != before.started:
                # What it had used until the last reading is in its parent's figure now; it was counted then.
                ticks -= before.cpu_ticks if before.parent in self._own else 0
                continue
            now[pid] = stat
            ticks += stat.cpu_ticks - before.cpu_ticks
        self._own = now
        memory = self._memory_bytes(now) >> 20
        wait_factor = self._stretch() if with_waits else 1.0
        if not with_waits:
            self._waits.clear()
        return OwnReading(frozenset(now), max(0, ticks) / TICKS_PER_SECOND, memory, wait_factor)

    def _follow(self, roots: frozenset[int]) -> None:
        """Learn which processes are new, and which of them are ours."""
        everybody = {int(name) for name in os.listdir(self._proc) if name.isdigit()}
        self._reads += 1
        is_rescan = roots != self._roots or self._reads % RESCAN_READS == 0
        known = set(self._own) if is_rescan else self._own.keys() | self._others
        self._others = set() if is_rescan else self._others & everybody
        fresh = {pid: stat for pid in everybody - known if (stat := self._stat(pid)) is not None}
        while ours := [pid for pid, stat in fresh.items() if pid in roots or stat.parent in self._own]:
            for pid in ours:
                stat = fresh.pop(pid)
                # A process of a known tree was born since the last reading: all it used is news. Others just joined.
                is_born = not is_rescan and pid not in roots
                self._own[pid] = _Stat(stat.parent, 0, stat.threads, stat.started) if is_born else stat
        self._others |= fresh.keys()
        self._roots = roots

    def _stat(self, pid: int) -> _Stat | None:
        text = _read(f"{self._proc}/{pid}/stat")
        if not text:
            return None
        fields = text.rpartition(b")")[2].split()
        cpu = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
        return _Stat(int(fields[1]), cpu, int(fields[17]), fields[19])

    def _memory_bytes(self, pids: Iterable[int]) -> int:
        resident = {pid: self._resident_bytes(pid) for pid in pids}
        self._shared = {pid: shared for pid, shared in self._shared.items() if pid in resident}
        unknown = [pid for pid, size in resident.items() if pid not in self._shared and size <= LARGEST_TO_WALK]
        for pid in (*unknown, *self._shared)[:SHARES_A_READ]:
            self._shared.pop(pid, None)
            self._shared[pid] = self._shared_bytes(pid)
        # Bytes, not a share of them: what a process takes from now on is its own, and counts at once.
        return sum(max(0, size - self._shared.get(pid, 0)) for pid, size in resident.items())

    def _shared_bytes(self, pid: int) -> int:
        """Anonymous memory less its PSS (proc(5), smaps_rollup); 0 where the kernel does not tell."""
        lines = _read(f"{self._proc}/{pid}/smaps_rollup").splitlines()
        told = dict(line.split(b":", 1) for line in lines if b": " in line)
        try:
            return max(0, int(told[b"Anonymous"].split()[0]) - int(told[b"Pss_Anon"].split()[0])) << 10
        except (KeyError, ValueError, IndexError):
            return 0

    def _resident_bytes(self, pid: int) -> int:
        fields = _read(f"{self._proc}/{pid}/statm").split()
        return max(0, int(fields[1]) - int(fields[2])) * PAGE_BYTES if len(fields) > 2 else 0

    def _stretch(self) -> float:
        """From /proc/<pid>/task/<tid>/schedstat: nanoseconds on a CPU, and waiting on a run queue (sched-stats.rst)."""
        now: dict[str, tuple[int, int]] = {}
        for thread in self._threads():
            fields = _read(f"{thread}/schedstat").split()
            if len(fields) > 1:
                now[thread] = (int(fields[0]), int(fields[1]))
        ran = sum(run - self._waits[thread][0] for thread, (run, _) in now.items() if thread in self._waits)
        waited = sum(wait - self._waits[thread][1] for thread, (_, wait) in now.items() if thread in self._waits)
        self._waits = now
        # Below that, wake-up delays of idle threads would be taken for a queue.
        return (ran + waited) / ran if ran > 20_000_000 and waited > 0 else 1.0

    def _threads(self) -> list[str]:
        found: list[str] = []
        for pid, stat in self._own.items():
            tasks = f"{self._proc}/{pid}/task"
            try:
                names = [str(pid)] if stat.threads == 1 else os.listdir(tasks)
            except OSError:
                continue
            found += [f"{tasks}/{name}" for name in names]
            if len(found) >= MOST_THREADS:
                break
        return found[:MOST_THREADS]


def ancestors(pid: int, root: Path = Path("/")) -> list[int]:
    """The parents of ``pid``, nearest first."""
    found: list[int] = []
    while pid > 1:
        text = _read(f"{root}/proc/{pid}/stat")
        if not text:
            break
        pid = int(text.rpartition(b")")[2].split()[1])
        found.append(pid)
    return found


def _read(path: str) -> bytes:
    """All of a small file, empty if it cannot be read: by system calls, as hundreds are read each second."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, LARGEST_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
