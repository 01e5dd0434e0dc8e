"""Pressure stall information (PSI): how much of the time something waited for a resource.

Source: Linux, Documentation/accounting/psi.rst. Kernels without it, or with ``psi=0``, have no such file.
"""

from __future__ import annotations

import time
from pathlib import Path

from pause_manager.probes import cgroups
from pause_manager.probes.proc_file import ProcFile

RESOURCES = ("cpu", "memory", "io")


class PressureProbe:
    """Reads ``some``: the share of time in which at least one task waited, on the host or in our cgroup."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._host = {name: ProcFile(root / "proc/pressure" / name) for name in RESOURCES}
        group = cgroups.levels("cpu", root)
        own = group.paths[0] if group.version == 2 else None
        self._group = ProcFile(own / "cpu.pressure") if own else None
        self._last: dict[str, tuple[int, float]] = {}

    def read(self) -> dict[str, float]:
        """Shares from 0 to 1 since the last call, by resource; ``cpu_group`` is our cgroup's (v2). Absent: unknown."""
        shares = {name: self._share(name, file) for name, file in self._host.items()}
        if self._group is not None:
            shares["cpu_group"] = self._share("cpu_group", self._group)
        return {name: share for name, share in shares.items() if share is not None}

    def _share(self, name: str, file: ProcFile) -> float | None:
        stalled, now = _some_total(file.read()), time.monotonic()
        if stalled is None:
            return None
        before = self._last.get(name)
        self._last[name] = (stalled, now)
        if before is None or now <= before[1]:
            return None
        return round(min(1.0, max(0.0, (stalled - before[0]) / 1e6 / (now - before[1]))), 4)


def _some_total(text: str | None) -> int | None:
    for line in (text or "").splitlines():
        kind, *pairs = line.split()
        if kind == "some":
            return int(dict(pair.split("=") for pair in pairs)["total"])
    return None
