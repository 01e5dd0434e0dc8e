"""Nodes as the API shows them."""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers

from pause_manager.api.http.strict import StrictSerializer
from pause_manager.errors import PauseManagerError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class InvalidNode(PauseManagerError):
    """The text is not a valid name of a node."""

    code = "node_id_invalid"


class NodeQuery(StrictSerializer):
    """What a caller needs of a node."""

    min_gpu_vram_gb = serializers.FloatField(
        required=False, min_value=0, max_value=1e6, help_text="GiB of memory that are free on one of its GPUs."
    )
    min_cpu_cores = serializers.FloatField(
        required=False, min_value=0, max_value=1e6, help_text="Cores that neither other processes nor our work have."
    )


class GpuSerializer(serializers.Serializer[Any]):
    """One GPU of a node."""

    index = serializers.IntegerField(help_text="Number that its driver gives the GPU now.")
    name = serializers.CharField()
    uuid = serializers.CharField(help_text="UUID, by which the GPU is booked.")
    total_mib = serializers.IntegerField()
    free_mib = serializers.IntegerField(
        allow_null=True, help_text="Free memory as the driver reports it; null if it cannot be read."
    )
    room_mib = serializers.IntegerField(
        allow_null=True, help_text="Free memory, less what our work declared and does not use yet."
    )
    own_mib = serializers.IntegerField(help_text="Used by our processes.")
    utilisation = serializers.FloatField(allow_null=True, help_text="How busy the GPU is with all its users, 0 to 1.")
    temperature_c = serializers.IntegerField(allow_null=True)
    processes = serializers.IntegerField()
    problem = serializers.CharField(help_text="Why the GPU takes no new work; empty if it does.")
    mig_of = serializers.CharField(allow_null=True, help_text="The card that this MIG device is a part of.")
    is_unified = serializers.BooleanField(
        help_text="Whether the GPU shares the machine's memory; its figures are the machine's then."
    )
    note = serializers.CharField(help_text="What cannot be read of the GPU, which takes work all the same.")


class LoadSerializer(serializers.Serializer[Any]):
    """Resources that running work reserved on the node."""

    ref = serializers.CharField()
    needs = serializers.DictField(child=serializers.FloatField())
    priority = serializers.IntegerField()
    gpus = serializers.ListField(child=serializers.CharField(), help_text="UUIDs.")


class ContainerSerializer(serializers.Serializer[Any]):
    """A container of a node (or a unit, or a user) with workers of ours, and its limits if it has any."""

    key = serializers.CharField(help_text="Key that identifies the container.")
    label = serializers.CharField(help_text="Host name inside the container.")  # type: ignore[assignment]  # of Field
    own_cores = serializers.FloatField(help_text="Cores that our processes in the container use now.")
    own_memory_mib = serializers.IntegerField(help_text="Memory that our processes in the container use now.")
    cores = serializers.FloatField(
        allow_null=True,
        help_text="Cores that workers in the container may use; null: all of the node's, as it has no limit.",
    )
    foreign_cores = serializers.FloatField(
        help_text="Cores of these that other processes under the same limit use steadily."
    )
    memory_mib = serializers.IntegerField(
        allow_null=True, help_text="Memory that workers in the container may use; null: all of the node's."
    )
    free_memory_mib = serializers.IntegerField(
        allow_null=True, help_text="Free part of `memory_mib`; null without a limit."
    )
    gpus = serializers.ListField(child=serializers.CharField(), help_text="UUIDs of the cards that it sees.")


class WorkerGroupSerializer(serializers.Serializer[Any]):
    """Live workers of one container that serve the same queues and may use the same GPUs. Work runs in one of them."""

    container = serializers.CharField(help_text="The key of their container; empty if it is not known.")
    queues = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="Queues that the workers serve; null if they do not report them.",
    )
    gpus = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="UUIDs of the cards that each of them may use; null: all of the node's.",
    )


class NodeSerializer(serializers.Serializer[Any]):
    """A node: its latest sample, what our work has reserved, and what is left."""

    id = serializers.CharField(help_text="The name of the node.")
    is_online = serializers.BooleanField()
    is_consuming = serializers.BooleanField(help_text="Whether its workers take new work.")
    held = serializers.CharField(
        allow_null=True, help_text="Why an operator keeps it from new work; null if nobody does."
    )
    sampled_at = serializers.FloatField(help_text="Seconds since the epoch.")
    age_seconds = serializers.FloatField(help_text="Seconds since the node was last sampled; 0 while it is live.")
    pause_below = serializers.FloatField(
        help_text="Threshold: the node takes no new work while its free share is below this."
    )
    free_share = serializers.FloatField(allow_null=True, help_text="Free share for work that needs one core, 0 to 1.")
    cores = serializers.FloatField()
    own_cores = serializers.FloatField(help_text="Cores that our processes use now.")
    foreign_cores = serializers.FloatField(help_text="Cores that other processes use or want.")
    steady_foreign_cores = serializers.FloatField(help_text="Median of the last five values of `foreign_cores`.")
    room_cores = serializers.FloatField(help_text="Cores less `steady_foreign_cores`, less what our work declared.")
    load_1m = serializers.FloatField()
    memory_mib = serializers.IntegerField()
    free_memory_mib = serializers.IntegerField()
    own_memory_mib = serializers.IntegerField(help_text="Memory that our processes use now.")
    room_memory_mib = serializers.IntegerField()
    gpu_problem = serializers.CharField(
        help_text="Why the GPUs cannot be read; empty if they can, or if there are none."
    )
    gpu_note = serializers.CharField(help_text="Why the node has no GPUs, or none that may be used.")
    gpus = GpuSerializer(many=True)
    loads = LoadSerializer(many=True)
    containers = ContainerSerializer(many=True)
    workers = WorkerGroupSerializer(many=True)


def check_name(name: str) -> str:
    """``name`` if a node can have it, else :class:`InvalidNode`."""
    if not _NAME.fullmatch(name):
        raise InvalidNode(f"Cannot look for node {name[:64]!r}: expected letters, digits, '.', '_' and '-'.")
    return name
