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

    index = serializers.IntegerField(help_text="As its driver numbers it now.")
    name = serializers.CharField()
    uuid = serializers.CharField(help_text="It is booked by it.")
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
    mig_of = serializers.CharField(allow_null=True, help_text="The card that this MIG device is a part of.")
    is_unified = serializers.BooleanField(help_text="It has no memory of its own: its figures are the machine's.")
    note = serializers.CharField(help_text="What is not known of it, though it takes work.")


class LoadSerializer(serializers.Serializer[Any]):
    """A reservation: work of ours that is leased there."""

    ref = serializers.CharField()
    needs = serializers.DictField(child=serializers.FloatField())
    priority = serializers.IntegerField()
    gpus = serializers.ListField(child=serializers.CharField(), help_text="UUIDs.")


class ContainerSerializer(serializers.Serializer[Any]):
    """A container of a node (or a unit, or a user) with workers of ours, and its limits if it has any."""

    key = serializers.CharField(help_text="It is told apart by it.")
    label = serializers.CharField(help_text="The host name in it.")  # type: ignore[assignment]  # of Field
    own_cores = serializers.FloatField(help_text="Used by our processes in it now.")
    own_memory_mib = serializers.IntegerField(help_text="Used by our processes in it now.")
    cores = serializers.FloatField(
        allow_null=True, help_text="That its workers may use; null: those of the node, without a limit of its own."
    )
    foreign_cores = serializers.FloatField(help_text="Of these, used steadily by others under the same limit.")
    memory_mib = serializers.IntegerField(allow_null=True, help_text="That its workers may use; null: the node's.")
    free_memory_mib = serializers.IntegerField(allow_null=True, help_text="Left of these; null without a limit.")
    gpus = serializers.ListField(child=serializers.CharField(), help_text="UUIDs of the cards that it sees.")


class WorkerGroupSerializer(serializers.Serializer[Any]):
    """Live workers of one container that serve the same queues and may use the same GPUs. Work runs in one of them."""

    container = serializers.CharField(help_text="The key of their container; empty if it is not known.")
    queues = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="What they serve; null: they do not tell."
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
    own_memory_mib = serializers.IntegerField(help_text="Used by us now.")
    room_memory_mib = serializers.IntegerField()
    gpu_problem = serializers.CharField(
        help_text="Why its GPUs cannot be read; empty if they can or if there are none."
    )
    gpu_note = serializers.CharField(help_text="Why it has no GPUs, or none that may be used.")
    gpus = GpuSerializer(many=True)
    loads = LoadSerializer(many=True)
    containers = ContainerSerializer(many=True)
    workers = WorkerGroupSerializer(many=True)


def check_name(name: str) -> str:
    """``name`` if a node can have it, else :class:`InvalidNode`."""
    if not _NAME.fullmatch(name):
        raise InvalidNode(f"Cannot look for node {name[:64]!r}: expected letters, digits, '.', '_' and '-'.")
    return name
