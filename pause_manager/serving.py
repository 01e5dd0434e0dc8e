"""Which queues live workers serve, held or not, as they report it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.control import FleetWorker
from pause_manager.probes import processes
from pause_manager.views import NodeView

_Served = frozenset[str] | None


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = _live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


def by_node() -> dict[str, frozenset[str] | None]:
    """Those of each node with live workers; ``None`` where one does not tell: it is of an older release.

    No worker tells whether it serves the control queue, which nothing stops: any may.
    """
    return _told()[0]


def on(views: Iterable[NodeView]) -> list[NodeView]:
    """The nodes, and the containers of each, with what the live workers there serve."""
    nodes, containers = _told()
    return [
        replace(
            view,
            queues=nodes.get(view.name),
            containers=tuple(replace(one, queues=containers.get(one.key)) for one in view.containers),
        )
        for view in views
    ]


def _told() -> tuple[dict[str, _Served], dict[str, _Served]]:
    """By node, and by the key of a container."""
    always = frozenset({conf.settings().control_queue})
    nodes: dict[str, _Served] = {}
    containers: dict[str, _Served] = {}
    for node, owner, served in _live().values_list("node", "owner", "serves"):
        for found, key in ((nodes, node), (containers, processes.container_of(owner))):
            before = found.get(key, always)
            found[key] = None if before is None or not (served or owner) else before | set(served)
    return nodes, containers


def of_node(node: str) -> frozenset[str] | None:
    """Those of one node; ``None`` if nobody has told."""
    return by_node().get(node)


def _live() -> QuerySet[FleetWorker]:
    gone = timedelta(seconds=conf.settings().gone_seconds)
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone).order_by()
