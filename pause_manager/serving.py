"""Which queues live workers serve, held or not, as they report it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.control import FleetWorker

Served = frozenset[str] | None


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = _live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


def by_node() -> dict[str, Served]:
    """Those of each node with live workers; ``None`` where one does not tell: it is of an older release.

    No worker tells whether it serves the control queue, which nothing stops: any may.
    """
    return by(told())


def told() -> list[tuple[str, str, list[str]]]:
    """Node, main process and queues of each live worker."""
    return list(_live().values_list("node", "owner", "serves"))


def by(workers: Iterable[tuple[str, str, list[str]]]) -> dict[str, Served]:
    """The queues of workers, each (what it belongs to, main process, queues), by what they belong to."""
    always = frozenset({conf.settings().control_queue})
    found: dict[str, Served] = {}
    for whose, owner, served in workers:
        before = found.get(whose, always)
        found[whose] = None if before is None or not (served or owner) else before | set(served)
    return found


def of_node(node: str) -> frozenset[str] | None:
    """Those of one node; ``None`` if nobody has told."""
    return by_node().get(node)


def _live() -> QuerySet[FleetWorker]:
    gone = timedelta(seconds=conf.settings().gone_seconds)
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone).order_by()
