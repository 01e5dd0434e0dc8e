"""The live workers of nodes, by what work may run in them: queues that they serve, GPUs that they see, container."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pause_manager.capacity.snapshot import NodeView, WorkerGroup
from pause_manager.nodes import serving
from pause_manager.probes import processes


def with_workers(views: Iterable[NodeView]) -> list[NodeView]:
    """The nodes with their live workers, in one statement; as they were where there are none."""
    told = defaultdict(list)
    for node, *worker in serving.live().order_by("id").values_list("node", "owner", "serves", "visible_gpus"):
        told[node].append(worker)
    return [replace(view, workers=_groups(view, told[view.name])) if view.name in told else view for view in views]


def _groups(view: NodeView, workers: Iterable[Sequence[Any]]) -> tuple[WorkerGroup, ...]:
    """The workers of one node, each as main process, queues and visible GPUs, without those that are like another."""
    ids = {gpu.id for gpu in view.gpus}
    at_hand = {one.key: frozenset(one.gpus) for one in view.containers}
    found: dict[WorkerGroup, None] = {}
    for owner, queues, visible in workers:
        container = processes.container_of(owner)
        seen = ids & at_hand.get(container, ids)
        if visible is not None:
            seen &= set(visible)
        gpus = None if seen == ids else frozenset(seen)
        found[WorkerGroup(serving.served(owner, queues), gpus, container)] = None
    return tuple(found)
