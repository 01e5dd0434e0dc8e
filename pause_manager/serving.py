"""Which queues live workers serve, held or not, as they report it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.control import FleetWorker


def queues() -> list[str]:
    """Those that any live worker serves, but for the control queue."""
    rows = live().values_list("serves", flat=True)
    return sorted({queue for served in rows for queue in served})


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
