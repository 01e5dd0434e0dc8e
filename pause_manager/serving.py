"""Which queues live workers serve, held or not, as they report it."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.control import FleetWorker


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = _live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


def by_node() -> dict[str, frozenset[str] | None]:
    """Those of each node with live workers; ``None`` where one does not tell: it is of an older release.

    No worker tells whether it serves the control queue, which nothing stops: any may.
    """
    always = frozenset({conf.settings().control_queue})
    found: dict[str, frozenset[str] | None] = {}
    for node, owner, served in _live().values_list("node", "owner", "serves"):
        before = found.get(node, always)
        found[node] = None if before is None or not (served or owner) else before | set(served)
    return found


def of_node(node: str) -> frozenset[str] | None:
    """Those of one node; ``None`` if nobody has told."""
    return by_node().get(node)


def _live() -> QuerySet[FleetWorker]:
    gone = timedelta(seconds=conf.settings().gone_seconds)
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone).order_by()
