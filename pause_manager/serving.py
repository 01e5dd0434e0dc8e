"""Which queues live workers serve, held or not, and which GPUs they may use, as they report it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.control import FleetWorker
from pause_manager.probes import processes
from pause_manager.views import NodeView, WorkerGroup


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = _live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


def with_workers(views: Iterable[NodeView]) -> list[NodeView]:
    """The nodes with their live workers, in one statement; as they were where there are none."""
    told = defaultdict(list)
    for node, *worker in _live().values_list("node", "owner", "serves", "visible_gpus"):
        told[node].append(worker)
    return [replace(view, workers=_groups(view, told[view.name])) if view.name in told else view for view in views]


def of_node(node: str) -> frozenset[str] | None:
    """The queues of one node; ``None`` if nobody has told, or somebody does not: he is of an older release."""
    workers = list(_live().filter(node=node).values_list("owner", "serves"))
    found = [_served(owner, queues) for owner, queues in workers]
    known = [queues for queues in found if queues is not None]
    return frozenset().union(*known) if found and len(known) == len(found) else None


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
        found[WorkerGroup(_served(owner, queues), gpus, container)] = None
    return tuple(found)


def _served(owner: str, queues: Iterable[str]) -> frozenset[str] | None:
    """No worker tells whether it serves the control queue, which nothing stops: any may."""
    return frozenset({conf.settings().control_queue, *queues}) if queues or owner else None


def _live() -> QuerySet[FleetWorker]:
    gone = timedelta(seconds=conf.settings().gone_seconds)
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone).order_by()
