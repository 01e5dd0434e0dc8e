"""Nodes as the API shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rest_framework import serializers

from pause_manager import capacity, conf, loads, nodes
from pause_manager.api.strict import StrictSerializer
from pause_manager.clock import database_seconds
from pause_manager.errors import PauseManagerError
from pause_manager.needs import Needs
from pause_manager.views import GpuView, Load

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class InvalidNode(PauseManagerError):
    """The text is no name that a node can have."""

    code = "node_id_invalid"


class NodeQuery(StrictSerializer):
    """What a caller needs of a node."""

    min_gpu_vram_gb = serializers.FloatField(
        required=False, min_value=0, max_value=1e6, help_text="GiB of memory that are free on one of its GPUs."
    )
    min_cpu_cores = serializers.FloatField(
        required=False, min_value=0, max_value=1e6, help_text="Cores that neither strangers nor work of ours have."
    )


class GpuSerializer(serializers.Serializer[Any]):
    """One GPU of a node."""

    index = serializers.IntegerField()
    name = serializers.CharField()
    uuid = serializers.CharField()
    total_mib = serializers.IntegerField()
    free_mib = serializers.IntegerField(allow_null=True, help_text="As its driver says; null if it cannot be read.")
    room_mib = serializers.IntegerField(
        allow_null=True, help_text="Free, less what our work declared and does not use yet."
    )
    own_mib = serializers.IntegerField(help_text="Used by our processes.")
    utilisation = serializers.FloatField(allow_null=True, help_text="0 to 1, of everybody.")
    temperature_c = serializers.IntegerField(allow_null=True)
    processes = serializers.IntegerField()
    problem = serializers.CharField(help_text="Why no new work may go there; empty if it is fine.")


class LoadSerializer(serializers.Serializer[Any]):
    """A reservation: work of ours that is leased there."""

    ref = serializers.CharField()
    needs = serializers.DictField(child=serializers.FloatField())
    priority = serializers.IntegerField()
    gpus = serializers.ListField(child=serializers.IntegerField())


class NodeSerializer(serializers.Serializer[Any]):
    """A node: its latest sample, what our work has reserved, and what is left."""

    id = serializers.CharField(help_text="The name of the node.")
    is_online = serializers.BooleanField()
    is_consuming = serializers.BooleanField(help_text="Whether its workers take new work.")
    held = serializers.CharField(
        allow_null=True, help_text="Why an operator keeps it from new work; null if nobody does."
    )
    sampled_at = serializers.FloatField(help_text="Seconds since the epoch.")
    age_seconds = serializers.FloatField(help_text="Since it was last seen; 0 while it is live.")
    pause_below = serializers.FloatField(help_text="It takes no new work while its free share is below this.")
    free_share = serializers.FloatField(allow_null=True, help_text="For work that needs one core, 0 to 1.")
    cores = serializers.FloatField()
    own_cores = serializers.FloatField(help_text="Used by us now.")
    foreign_cores = serializers.FloatField(help_text="Used or wanted by others.")
    steady_foreign_cores = serializers.FloatField(help_text="The middle of its last five figures.")
    room_cores = serializers.FloatField(help_text="Cores, less steady foreign ones, less those our work declared.")
    load_1m = serializers.FloatField()
    memory_mib = serializers.IntegerField()
    free_memory_mib = serializers.IntegerField()
    room_memory_mib = serializers.IntegerField()
    gpu_problem = serializers.CharField(
        help_text="Why its GPUs cannot be read; empty if they can or if there are none."
    )
    gpus = GpuSerializer(many=True)
    loads = LoadSerializer(many=True)


def check_name(name: str) -> str:
    """``name`` if a node can have it, else :class:`InvalidNode`."""
    if not _NAME.fullmatch(name):
        raise InvalidNode(f"Cannot look for node {name[:64]!r}: expected letters, digits, '.', '_' and '-'.")
    return name


def shown(name: str | None = None) -> list[dict[str, Any]]:
    """Every node, or the named one, in a fixed number of queries."""
    carried, held, now = loads.by_node(name), nodes.held(), database_seconds()
    return [_node(state, carried.get(state.view.name, ()), held, now) for state in nodes.states(name)]


def matching(found: Iterable[dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    """The online nodes of ``found`` that nobody holds and that have what a :class:`NodeQuery` asks for."""
    gpu_mib, cores = query.get("min_gpu_vram_gb"), query.get("min_cpu_cores", 0)
    return [
        node
        for node in found
        if node["is_online"]
        and node["held"] is None
        and node["room_cores"] >= cores
        and (gpu_mib is None or any((gpu["room_mib"] or -1) >= gpu_mib * 1024 for gpu in node["gpus"]))
    ]


def _node(state: nodes.NodeState, carried: Sequence[Load], held: dict[str, str], now: float) -> dict[str, Any]:
    policy = conf.settings().policy_of()
    view = replace(state.view, loads=tuple(load for load in carried if not load.is_sent))
    room = capacity.room(view, now, policy)
    share = room.share(Needs())
    left = {gpu.index: gpu.free_mib for gpu in room.gpus}
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
        "room_cores": room.cpu_milli / 1000,
        "load_1m": state.sample.load_1m,
        "memory_mib": view.memory_mib,
        "free_memory_mib": view.free_memory_mib,
        "room_memory_mib": room.memory_mib,
        "gpu_problem": view.gpu_problem,
        "gpus": [_gpu(gpu, left.get(gpu.index)) for gpu in view.gpus],
        "loads": [_load(load) for load in view.loads],
    }


def _gpu(gpu: GpuView, left: int | None) -> dict[str, Any]:
    kept_back = ("own_processes", "mig_of")
    return {name: value for name, value in vars(gpu).items() if name not in kept_back} | {"room_mib": left}


def _load(load: Load) -> dict[str, Any]:
    return {"ref": load.ref, "needs": vars(load.needs), "priority": load.priority, "gpus": list(load.gpus)}
