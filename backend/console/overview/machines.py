"""Each machine in short: how much of its cores, memory and GPUs is ours, reserved, others' or free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from pause_manager.nodes import report

MOST = 8


@dataclass(frozen=True)
class Meter:
    """A bar of a hundred: the shares in the order in which they stand, and the figures in words."""

    title: str
    words: str
    ours: float = 0.0
    reserved: float = 0.0
    others: float = 0.0
    problem: str = ""

    @property
    def shapes(self) -> SafeString:
        """The parts of the bar, as SVG."""
        return SafeString(
            f'<rect class="ours" width="{self.ours:.2f}" height="8"/>'
            f'<rect class="reserved" x="{self.ours:.2f}" width="{self.reserved:.2f}" height="8"/>'
            f'<rect class="others" x="{self.ours + self.reserved:.2f}" width="{self.others:.2f}" height="8"/>'
        )


@dataclass(frozen=True)
class Machine:
    """One node."""

    name: str
    is_online: bool
    is_held: bool
    age_seconds: float
    meters: list[Meter]


def shown() -> tuple[list[Machine], int]:
    """The first machines by name, and how many more there are. A constant number of statements."""
    found, count = report.first(MOST)
    return [_machine(node) for node in found], count - len(found)


def _machine(node: Mapping[str, Any]) -> Machine:
    meters = [_cores(node), *([_memory(node)] if node["memory_mib"] else [])]
    meters += [_gpu(gpu) for gpu in node["gpus"]]
    if node["gpu_problem"]:
        meters.append(Meter("GPU", "", problem=str(node["gpu_problem"])))
    return Machine(node["id"], node["is_online"], node["held"] is not None, node["age_seconds"], meters)


def _cores(node: Mapping[str, Any]) -> Meter:
    cores, ours, others = float(node["cores"] or 0), float(node["own_cores"] or 0), float(node["foreign_cores"] or 0)
    if not cores:
        return Meter("Cores", "", problem="Nothing is known of its cores yet.")
    reserved = max(0.0, cores - others - float(node["room_cores"]) - ours)
    words = f"room on {max(0.0, float(node['room_cores'])):.1f} of {cores:g}"
    return _meter("Cores", words, cores, ours, reserved, others)


def _memory(node: Mapping[str, Any]) -> Meter:
    memory, free = float(node["memory_mib"]), node["free_memory_mib"]
    if free is None:
        return Meter("Memory", "", problem="Nothing is known of its memory yet.")
    room = float(free if node["room_memory_mib"] is None else node["room_memory_mib"])
    words = f"room in {_gib(max(0.0, room))} of {_gib(memory)}"
    return _meter("Memory", words, memory, 0.0, max(0.0, free - room), memory - free)


def _gpu(gpu: Mapping[str, Any]) -> Meter:
    title = f"GPU {gpu['index']}" if gpu.get("index") is not None else "GPU"
    total, free = gpu.get("total_mib"), gpu.get("free_mib")
    if not total or free is None:
        return Meter(title, "", problem="Nothing is known of its memory.")
    room = float(free if gpu["room_mib"] is None else gpu["room_mib"])
    words = f"room in {_gib(max(0.0, room))} of {_gib(total)}"
    return _meter(title, words, float(total), 0.0, max(0.0, free - room), float(total - free))


def _meter(title: str, words: str, whole: float, ours: float, reserved: float, others: float) -> Meter:
    shares = []
    left = 100.0
    for part in (ours, reserved, others):
        share = round(min(left, max(0.0, 100 * part / whole)), 2)
        shares.append(share)
        left -= share
    return Meter(title, words, shares[0], shares[1], shares[2])


def _gib(mib: float) -> str:
    return f"{mib / 1024:,.1f} GiB"
