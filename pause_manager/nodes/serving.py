"""Which queues live workers serve, held or not, as they report it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.models.fleet import FleetWorker


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


def is_any() -> bool:
    """Return whether any worker lives."""
    return live().exists()


def knows(queue: str, pipeline: str) -> bool:
    """Whether a live worker that serves ``queue`` has ``pipeline`` in its code; one that does not tell may have it."""
    told = live().filter(serves__contains=[queue])
    return told.filter(Q(pipelines__isnull=True) | Q(pipelines__contains=[pipeline])).exists() or not told.exists()


def places(queue: str) -> int | None:
    """Return how many tasks the live workers that serve ``queue`` work on at a time; ``None`` if one does not tell."""
    told = list(live().filter(serves__contains=[queue]).values_list("places", flat=True))
    return None if not told or None in told else sum(count or 0 for count in told)


def of_node(node: str) -> frozenset[str] | None:
    """The queues of one node; ``None`` if nobody has told, or somebody does not: he is of an older release."""
    workers = list(live().filter(node=node).values_list("owner", "serves"))
    found = [served(owner, queues) for owner, queues in workers]
    known = [queues for queues in found if queues is not None]
    return frozenset().union(*known) if found and len(known) == len(found) else None


def served(owner: str, queues: Iterable[str]) -> frozenset[str] | None:
    """What the worker whose main process is ``owner`` serves, if it tells ``queues``; ``None``: it is too old to tell.

    No worker tells whether it serves the control queue, which nothing stops: any may.
    """
    return frozenset({conf.settings().control_queue, *queues}) if queues or owner else None


def live() -> QuerySet[FleetWorker]:
    """The workers that were heard of lately."""
    gone = timedelta(seconds=conf.settings().gone_seconds)
    return FleetWorker.objects.filter(last_seen_at__gte=Now() - gone).order_by()
