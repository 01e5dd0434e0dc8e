"""Worlds from CSV files: machines and pods of a cluster trace, and measured foreign load.

The columns are those of the Alibaba GPU trace of 2023 ("openb"). Best-effort and burstable pods are our runs; the
others are foreign, put on machines by a scheduler of their own that does not see ours.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.simulation.world import CPU, MEMORY, Change, Job, Machine, World
from pause_manager.capacity.needs import Needs

MIB_PER_GPU_MILLI = 16
"""The trace gives shares of a GPU, not its memory: every GPU counts 16,000 MiB."""
_OURS = {"BE": 4, "Burstable": 2}
"""Quality of service of the pods that are ours, and the priority they get."""


class UnreadableTrace(ValueError):
    """A CSV file lacks a column or holds no number where one belongs; the sentence says where."""


@dataclass(frozen=True)
class Pod:
    name: str
    needs: Needs
    starts: float
    ends: float
    qos: str


def read_machines(path: Path) -> list[Machine]:
    """``sn, cpu_milli, memory_mib, gpu`` a line."""
    return [
        Machine(row["sn"], _int(path, row, "cpu_milli"), _int(path, row, "memory_mib"), gpus, 1000 * MIB_PER_GPU_MILLI)
        for row in _rows(path, ("sn", "cpu_milli", "memory_mib", "gpu"))
        for gpus in (_int(path, row, "gpu"),)
    ]


def read_pods(path: Path) -> list[Pod]:
    """``name, cpu_milli, memory_mib, num_gpu, gpu_milli, qos, creation_time, deletion_time, scheduled_time`` a line.

    A pod lasts from when it was scheduled to when it was deleted. Foreign pods never scheduled never ran and are left
    out; runs of ours never scheduled wanted to run from their creation on.
    """
    columns = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "qos", "creation_time", "deletion_time")
    pods = []
    for row in _rows(path, columns):
        scheduled = row.get("scheduled_time") or ""
        if not scheduled and row["qos"] not in _OURS:
            continue
        gpus = _int(path, row, "num_gpu")
        needs = Needs(
            cpu=_int(path, row, "cpu_milli") / 1000,
            memory_mib=_int(path, row, "memory_mib"),
            gpu_memory_mib=_int(path, row, "gpu_milli") * MIB_PER_GPU_MILLI if gpus else 0,
            gpus=gpus,
        )
        starts = float(_int(path, row, "scheduled_time") if scheduled else _int(path, row, "creation_time"))
        ends = float(_int(path, row, "deletion_time"))
        if ends > starts:
            pods.append(Pod(row["name"], needs, starts, ends, row["qos"]))
    return pods


def cluster(machines: list[Machine], pods: list[Pod], *, seed: int, days: float, repeat: int = 1) -> World:
    """The last ``days`` of a trace. ``repeat`` gives each of our runs that many twins, to press an idle cluster."""
    end = max(pod.starts for pod in pods)
    start = max(0.0, end - days * 86400)
    jobs, foreign = [], []
    for pod in pods:
        if pod.qos not in _OURS:
            if pod.ends > start:
                foreign.append(pod)
        elif pod.starts >= start:
            for twin in range(repeat):
                name = pod.name if repeat == 1 else f"{pod.name}.{twin}"
                jobs.append(Job(name, pod.needs, pod.starts - start, pod.ends - pod.starts, _OURS[pod.qos]))
    changes, homeless = _settle(machines, foreign, start, random.Random(seed))
    notes = [f"{len(jobs):,} runs of ours and {len(foreign):,} foreign pods in {(end - start) / 86400:.1f} days"]
    if homeless:
        notes.append(f"{homeless:,} foreign pods found no machine and are left out")
    return World("trace", machines, jobs, changes, end - start, notes)


def read_foreign(path: Path, machines: list[Machine]) -> list[Change]:
    """``timestamp_s, node, gpu (may be empty), cpu_fraction, gpu_memory_fraction, gpu_utilisation`` a line.

    Utilisation is read by people only: room on a GPU is its memory.
    """
    numbers = {machine.name: number for number, machine in enumerate(machines)}
    changes = []
    for row in _rows(path, ("timestamp_s", "node", "gpu", "cpu_fraction", "gpu_memory_fraction")):
        if row["node"] not in numbers:
            raise UnreadableTrace(f"Cannot read {path}: it names node {row['node']!r}, which no machine has")
        number = numbers[row["node"]]
        machine = machines[number]
        at = _float(path, row, "timestamp_s")
        if row["cpu_fraction"]:
            changes.append(Change(at, number, CPU, round(_float(path, row, "cpu_fraction") * machine.cpu_millicores)))
        if row["gpu"] and row["gpu_memory_fraction"]:
            gpu = _int(path, row, "gpu")
            if not 0 <= gpu < machine.gpus:
                raise UnreadableTrace(f"Cannot read {path}: {machine.name} has {machine.gpus} GPUs, got: {gpu}")
            amount = round(_float(path, row, "gpu_memory_fraction") * machine.gpu_mib)
            changes.append(Change(at, number, gpu, amount))
    return sorted(changes)


class _Tenant:
    """What other processes hold of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.free = [machine.cpu_millicores, machine.memory_mib]
        self.total = (machine.cpu_millicores, machine.memory_mib)
        self.gpus = [machine.gpu_mib] * machine.gpus
        self.gpu_mib = machine.gpu_mib

    def place(self, needs: Needs) -> tuple[int, ...] | None:
        if round(needs.cpu * 1000) > self.free[0] or needs.memory_mib > self.free[1]:
            return None
        fitting = sorted((free, index) for index, free in enumerate(self.gpus) if free >= needs.gpu_memory_mib)
        if len(fitting) < needs.gpus:
            return None
        return tuple(index for _, index in fitting[: needs.gpus])

    def book(self, needs: Needs, gpus: Iterable[int], sign: int) -> Iterator[tuple[int, int]]:
        self.free[0] -= sign * round(needs.cpu * 1000)
        self.free[1] -= sign * needs.memory_mib
        yield CPU, self.total[0] - self.free[0]
        yield MEMORY, self.total[1] - self.free[1]
        for index in gpus:
            self.gpus[index] -= sign * needs.gpu_memory_mib
            yield index, self.gpu_mib - self.gpus[index]


def _settle(machines: list[Machine], foreign: list[Pod], start: float, dice: random.Random) -> tuple[list[Change], int]:
    """Put each foreign pod on a random machine with room beside the others; gives changes and how many found none."""
    tenants = [_Tenant(machine) for machine in machines]
    events = [(max(pod.starts, start), 1, pod) for pod in foreign] + [(pod.ends, 0, pod) for pod in foreign]
    events.sort(key=lambda event: (event[0], event[1], event[2].name))
    homes: dict[str, tuple[int, tuple[int, ...]]] = {}
    changes: list[Change] = []
    homeless = 0
    for at, is_start, pod in events:
        if is_start:
            home = _home(tenants, pod.needs, dice)
            if home is None:
                homeless += 1
                continue
            homes[pod.name] = home
        elif pod.name not in homes:
            continue
        number, gpus = homes[pod.name] if is_start else homes.pop(pod.name)
        for kind, amount in tenants[number].book(pod.needs, gpus, 1 if is_start else -1):
            changes.append(Change(at - start, number, kind, amount))
    return changes, homeless


def _home(tenants: list[_Tenant], needs: Needs, dice: random.Random) -> tuple[int, tuple[int, ...]] | None:
    for _ in range(20):
        number = dice.randrange(len(tenants))
        gpus = tenants[number].place(needs)
        if gpus is not None:
            return number, gpus
    for number in dice.sample(range(len(tenants)), len(tenants)):
        gpus = tenants[number].place(needs)
        if gpus is not None:
            return number, gpus
    return None


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise UnreadableTrace(f"Cannot read {path}: it has no column {missing[0]!r}")
        yield from reader


def _int(path: Path, row: dict[str, str], column: str) -> int:
    return int(_float(path, row, column))


def _float(path: Path, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column] or 0)
    except ValueError:
        raise UnreadableTrace(f"Cannot read {path}: expected a number in {column}, got: {row[column]!r}") from None
