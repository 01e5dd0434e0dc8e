"""Nodes as API, metrics and commands show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pause_manager import capacity, conf, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation, ContainerView, GpuView, NodeView, WorkerGroup
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import registry, worker_groups


def shown(name: str | None = None) -> list[dict[str, Any]]:
    """Every node, or the named one, in a fixed number of queries."""
    return first(None, name)[0]


def first(most: int | None, name: str | None = None) -> tuple[list[dict[str, Any]], int]:
    """The first nodes by name, ``most`` at most, and how many there are."""
    carried, held, now = workloads.allocations_by_node(name), registry.held(), database_seconds()
    states = registry.states(name)
    views = worker_groups.with_workers(state.view for state in states[:most])
    found = [
        _node(
            state,
            view.carrying(allocation for allocation in carried.get(view.name, ()) if not allocation.is_sent),
            held,
            now,
        )
        for state, view in zip(states[:most], views, strict=True)
    ]
    return found, len(states)


def matching(found: Iterable[dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    """The online nodes of ``found`` that nobody holds and that have what an ``api.nodes.NodeQuery`` asks for."""
    gpu_mib, cores = query.get("min_gpu_vram_gb"), query.get("min_cpu_cores", 0)
    return [
        node
        for node in found
        if node["is_online"]
        and node["held"] is None
        and node["room_cores"] >= cores
        and (gpu_mib is None or any((gpu["room_mib"] or -1) >= gpu_mib * 1024 for gpu in node["gpus"]))
    ]


def _node(state: registry.KnownNode, view: NodeView, held: dict[str, str], now: float) -> dict[str, Any]:
    policy = conf.settings().policy_of()
    room = capacity.headroom(view, now, policy)
    share = room.share(Needs())
    left = {gpu.id: gpu.free_mib for gpu in room.gpus}
    return {
        "id": view.name,
        "is_online": view.is_online,
        "is_consuming": state.row.is_consuming,
        "held": held.get(view.name),
        "sampled_at": view.sampled_at,
        "age_seconds": round(state.age_seconds, 3),
        "pause_below": policy.pause_threshold(view.pause_below, view.threshold_moved_by),
        "free_share": None if share is None else round(float(share), 4),
        "cores": view.cores,
        "own_cores": state.sample.own_cores,
        "foreign_cores": view.foreign_cores,
        "steady_foreign_cores": view.counted_foreign_cores,
        "room_cores": room.cpu_millicores / 1000,
        "load_1m": state.sample.load_1m,
        "memory_mib": view.memory_mib,
        "free_memory_mib": view.free_memory_mib,
        "own_memory_mib": view.own_memory_mib,
        "room_memory_mib": room.memory_mib,
        "gpu_problem": view.gpu_problem,
        "gpu_note": view.gpu_note,
        "gpus": [_gpu(gpu, left.get(gpu.id)) for gpu in view.gpus],
        "loads": [_allocation(allocation) for allocation in view.allocations],
        "containers": [_container(one) for one in view.containers],
        "workers": [worker_group(group) for group in view.workers or ()],
    }


def _gpu(gpu: GpuView, left: int | None) -> dict[str, Any]:
    hidden = ("own_processes",)
    return {name: value for name, value in vars(gpu).items() if name not in hidden} | {"room_mib": left}


def _container(one: ContainerView) -> dict[str, Any]:
    hidden = ("gpu_numbers",)
    return {name: value for name, value in vars(one).items() if name not in hidden} | {"gpus": list(one.gpus)}


def worker_group(group: WorkerGroup) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "container": group.container,
        "queues": None if group.queues is None else sorted(group.queues),
        "gpus": None if group.gpus is None else sorted(group.gpus),
    }


def _allocation(allocation: Allocation) -> dict[str, Any]:
    return {
        "ref": allocation.ref,
        "needs": vars(allocation.needs),
        "priority": allocation.priority,
        "gpus": list(allocation.gpus),
    }
