"""One sample of a machine from what its containers report and what one of them sees of it. Pure.

    cores     = min(CPUs that any container may run on, sum of what the containers may use)
    machine:    foreign_m = busy on those CPUs - own of all containers, room_m = CPUs - foreign_m
    container:  foreign_c = use of its control group - own of all containers in it, room_c = its cores - foreign_c
    foreign   = cores - min(room_m, sum of room_c), from 0 to cores

So our containers are not foreign to each other, and a foreign process on a large host costs a small container nothing
until it reaches the container's cores. One container without limits makes the sums those of the machine.

On a full CPU other processes get less than they want. Under fair scheduling all wait in proportion: their demand is
what they get x our own wait factor (own_processes.py: run-queue wait of our threads), and at most the run queue
(running tasks of /proc/loadavg, smoothed) less our own part of it. With only our own load foreign use is near 0, and
so is its product: our own load never looks foreign.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pause_manager.capacity.snapshot import ContainerView, GpuView, NodeView
from pause_manager.probes.container_report import Limit, Report
from pause_manager.probes.cpu import busy_on
from pause_manager.probes.sample import Sample

FULL_FROM = 0.95
"""From this share of busy cores on, what a process gets is not what it wants."""


@dataclass(frozen=True)
class MachineReading:
    """What any container sees of the whole machine."""

    busy: tuple[float, ...]
    """Cores in use of each CPU."""
    load_1m: float
    queue: float | None
    """Tasks that run or wait to, smoothed."""
    memory_mib: int
    free_memory_mib: int
    pressure: Mapping[str, float]


def merged(name: str, sampled_at: float, machine: MachineReading, reports: Sequence[Report]) -> Sample:
    """The sample of the machine called ``name``; ``reports`` has one of each of its containers."""
    reports = sorted(reports, key=lambda report: (report.label, report.container))
    cpus = 0
    for report in reports:
        cpus |= report.cpus
    own = sum(report.own_cores for report in reports)
    busy = min(float(cpus.bit_count()), busy_on(machine.busy, cpus))
    foreign, corrected_by = _foreign(machine, reports, cpus.bit_count(), busy, own)
    containers = [_container(report, reports, cpus, machine.memory_mib) for report in reports]
    cores, room = float(cpus.bit_count()), cpus.bit_count() - foreign
    if all(one.cores is not None for one in containers):
        bounds = _each_once(containers, [_tightest_cpu(report) for report in reports])
        cores = min(cores, sum(one.cores or 0.0 for one in bounds))
        room = min(room, sum((one.cores or 0.0) - one.foreign_cores for one in bounds))
    memory, free = machine.memory_mib, machine.free_memory_mib
    if all(one.memory_mib is not None for one in containers):
        bounds = _each_once(containers, [_tightest(report.memory_limits) for report in reports])
        memory = min(memory, sum(one.memory_mib or 0 for one in bounds))
        free = min(free, sum(one.free_memory_mib or 0 for one in bounds))
    gpus, problem = _gpus(reports)
    gpus = tuple(_with_memory(gpu, memory, free) for gpu in gpus)
    view = NodeView(
        name=name,
        sampled_at=round(sampled_at, 3),
        cores=round(cores, 3),
        foreign_cores=round(min(cores, max(0.0, cores - room)), 3),
        memory_mib=memory,
        free_memory_mib=free,
        own_memory_mib=sum(report.own_memory_mib for report in reports)
        + sum(gpu.own_mib for gpu in gpus if gpu.is_unified),
        gpus=gpus,
        gpu_problem=problem,
        gpu_note="" if gpus or problem else next((report.gpu_note for report in reports if report.gpu_note), ""),
        containers=tuple(containers),
    )
    return Sample(
        view=view,
        own_cores=round(own, 3),
        busy_cores=round(busy, 3),
        load_1m=machine.load_1m,
        foreign_corrected_by=corrected_by,
        own_processes=sum(report.own_processes for report in reports),
        pressure=dict(machine.pressure),
    )


def with_container(sample: Sample, report: Report) -> Sample:
    """``sample`` with the container of ``report``, if it has come since the sample was made."""
    view = sample.view
    if any(one.key == report.container for one in view.containers):
        return sample
    own = _container(report, [report], report.cpus, view.memory_mib)
    return replace(sample, view=replace(view, containers=(*view.containers, own)))


def _foreign(
    machine: MachineReading, reports: Sequence[Report], cores: int, busy: float, own: float
) -> tuple[float, str]:
    """Return what other processes want of the machine, and by what that was raised from what they get, if it was."""
    foreign = max(0.0, busy - own)
    stretched = sum(report.own_cores * report.wait_factor for report in reports)
    if busy < FULL_FROM * cores or foreign <= 0 or stretched <= own:
        return foreign, ""
    runnable = float(cores) if machine.queue is None else max(foreign, machine.queue - stretched)
    return min(foreign * stretched / own, runnable), "run queue"


def _container(report: Report, everybody: Sequence[Report], cpus: int, memory_mib: int) -> ContainerView:
    view = ContainerView(
        key=report.container,
        label=report.label,
        own_cores=round(report.own_cores, 3),
        own_memory_mib=report.own_memory_mib,
        gpus=tuple(gpu.id for gpu in report.gpus),
        gpu_numbers=tuple(gpu.index for gpu in report.gpus),
    )
    bounds: list[tuple[float, float]] = []
    if report.cpus != cpus:
        # What others use of these very CPUs is counted for the machine.
        bounds.append((float(report.cpus.bit_count()), float(report.cpus.bit_count())))
    for limit in report.cpu_limits:
        if limit.size < cpus.bit_count():
            own = sum(one.own_cores for one in everybody if _is_in(one.cpu_limits, limit))
            bounds.append((limit.size, limit.size - max(0.0, limit.used - own)))
    if bounds:
        cores = min(size for size, _ in bounds)
        room = min(room for _, room in bounds)
        view = replace(view, cores=round(cores, 3), foreign_cores=round(min(cores, max(0.0, cores - room)), 3))
    if within := [limit for limit in report.memory_limits if limit.size < memory_mib]:
        size = min(int(limit.size) for limit in within)
        view = replace(
            view, memory_mib=size, free_memory_mib=min(max(0, int(limit.size - limit.used)) for limit in within)
        )
    return view


def _is_in(limits: Iterable[Limit], limit: Limit) -> bool:
    return any(one.group == limit.group for one in limits)


def _tightest(limits: Sequence[Limit]) -> str:
    return min(limits, key=lambda limit: limit.size).group if limits else ""


def _tightest_cpu(report: Report) -> str:
    limit = _tightest(report.cpu_limits)
    return limit or f"cpus {report.cpus}"


def _each_once(containers: Sequence[ContainerView], groups: Sequence[str]) -> list[ContainerView]:
    """Containers that share one limit count once: as the one with the least left of it."""
    found: dict[str, ContainerView] = {}
    for one, group in zip(containers, groups, strict=True):
        if group not in found or one.foreign_cores > found[group].foreign_cores:
            found[group] = one
    return list(found.values())


def _gpus(reports: Sequence[Report]) -> tuple[tuple[GpuView, ...], str]:
    """Every card that any container sees, once, with our use in all of them; and why none can be read, if so."""
    cards: dict[str, list[GpuView]] = {}
    for report in reports:
        for gpu in report.gpus:
            cards.setdefault(gpu.id, []).append(gpu)
    found = [_one_card(seen) for seen in cards.values()]
    found.sort(key=lambda gpu: (gpu.index, gpu.uuid))
    problems = [report.gpu_problem for report in reports if report.gpu_problem]
    is_readable = any(report.gpus and not report.gpu_problem for report in reports)
    return tuple(_numbered_apart(found)), "" if is_readable or not problems else problems[0]


def _one_card(seen: Sequence[GpuView]) -> GpuView:
    readable = [gpu for gpu in seen if not gpu.problem] or list(seen)
    return replace(
        readable[0],
        own_mib=sum(gpu.own_mib for gpu in seen),
        own_processes=sum(gpu.own_processes for gpu in seen),
        processes=max(gpu.processes for gpu in seen),
        note=next((gpu.note for gpu in seen if gpu.note), ""),
    )


def _with_memory(gpu: GpuView, memory_mib: int, free_mib: int) -> GpuView:
    """A GPU without memory of its own has the machine's."""
    if not gpu.is_unified or gpu.free_mib is None:
        return gpu
    return replace(gpu, total_mib=memory_mib, free_mib=free_mib)


def _numbered_apart(gpus: Sequence[GpuView]) -> list[GpuView]:
    """Each container numbers its cards from 0: the second card of one number gets the next that is free."""
    taken: set[int] = set()
    found: list[GpuView] = []
    for gpu in gpus:
        index = gpu.index
        while index in taken:
            index += 1
        taken.add(index)
        found.append(replace(gpu, index=index))
    return found
