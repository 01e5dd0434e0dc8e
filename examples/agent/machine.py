"""What this machine has left, for claims where capacity is watched. Reads ``/proc`` and asks ``nvidia-smi``."""

from __future__ import annotations

import os
import subprocess
from typing import Any


def sample() -> dict[str, Any] | None:
    """Cores, MiB and GPUs as a claim takes them; ``None`` where this machine cannot be read."""
    try:
        with open("/proc/meminfo") as file:
            memory = {name: int(value.split()[0]) // 1024 for name, value in (line.split(":", 1) for line in file)}
        return {
            "cores": len(os.sched_getaffinity(0)),
            "memoryMib": memory["MemTotal"],
            "freeMemoryMib": memory["MemAvailable"],
            "gpus": _gpus(),
        }
    except (AttributeError, OSError, KeyError, ValueError):
        return None


def _gpus() -> list[dict[str, Any]]:
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
        cards = [[figure.strip() for figure in line.split(",")] for line in said.splitlines()]
        return [
            {"index": int(index), "uuid": uuid, "totalMib": int(total), "freeMib": int(free)}
            for index, uuid, total, free in cards
        ]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []  # None, or none that can be told: no GPU job is asked for.
