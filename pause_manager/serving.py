"""Which queues live workers serve, held or not, as they report it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.control import FleetWorker

Served = frozenset[str] | None


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = _live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


def is_any() -> bool:
    """Whether any worker lives."""
    return _live().exists()


def knows(queue: str, pipeline: str) -> bool:
    """Whether a live worker that serves ``queue`` has ``pipeline`` in its code; one that does not tell may have it."""
    told = _live().filter(serves__contains=[queue])
    return told.filter(Q(pipelines__isnull=True) | Q(pipelines__contains=[pipeline])).exists() or not told.exists()


def places(queue: str) -> int | None:
    """How many tasks the live workers that serve ``queue`` work on at a time; ``None`` if one does not tell."""
    told = list(_live().filter(serves__contains=[queue]).values_list("places", flat=True))
    return None if not told or None in told else sum(count or 0 for count in told)


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
