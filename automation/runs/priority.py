"""The priority of an unfinished run, and of what waits for room in its name."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from automation.models import AutomationRun
from automation.models.lanes import lock_lane
from automation.models.runs import lock_runs
from automation.runs import places
from automation.signals import places_freed
from pause_manager import scopes
from pause_manager.messaging import notifier
from pause_manager.pause_queue import writer

FIRST, LAST = 1, 5


def swap(run_id: UUID, priority: int, *, only_if: int | None = None) -> int | None:
    """Give the run another priority; return the one it had. In the caller's transaction, without an event.

    ``None``: there is no such unfinished run, or it has another priority than ``only_if``.
    """
    lane = AutomationRun.objects.unfinished().filter(pk=run_id).values_list("lane", flat=True).first()
    if lane is None:
        return None
    lock_lane(lane)
    lock_runs([str(run_id)])
    run = AutomationRun.objects.unfinished().filter(pk=run_id).only("priority", "lane_order").first()
    if run is None or (only_if is not None and run.priority != only_if):
        return None
    places.put(run_id, priority=priority, order=run.lane_order)
    writer.set_priority(scopes.run(run_id), priority)
    transaction.on_commit(lambda: places_freed.send(AutomationRun, lanes={lane}), robust=True)
    notifier.changed(scopes.run(run_id))
    return run.priority
