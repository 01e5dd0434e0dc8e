"""What a worker reports of itself: what it obeys, what it has in hand, and what of it somebody waits to hear."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pause_manager import conf, workloads
from pause_manager.nodes.members import Report
from pause_manager.probes import processes
from pause_manager.slots import gpus
from pause_manager.slots.shared_state import HoldSnapshot
from pause_manager.worker.consumption import consumption
from pause_manager.worker.open_requests import open_requests
from pause_manager.worker.stop_marks import stop_marks

_AWAITED = ("revision", "version", "in_hand", "serves", "visible_gpus", "files")


class MemberReport:
    """Of one worker. ``worker`` is Celery's ``WorkController``."""

    def __init__(self, worker: Any, pipelines: Iterable[str]) -> None:
        self.name: str = worker.hostname
        self._worker = worker
        self._pipelines = set(pipelines)

    def values(self, node: str, revision: int, version: int) -> dict[str, Any]:
        """For the statement of a heartbeat; ``revision`` and ``version`` are what is obeyed by now."""
        report = Report(
            self.name,
            node,
            consumption.queues,
            version,
            revision=revision,
            owner=processes.identity(),
            in_hand=open_requests.counts(),
            tasks=open_requests.oldest(),
            task_names=list(self._worker.app.tasks),
            pipelines=self._pipelines,
            places=getattr(self._worker, "max_concurrency", None) or self._worker.concurrency,
            visible_gpus=gpus.visible_ids(),
            files=workloads.storage_report(),
            clock=time.time(),
            boot_id=processes.boot_id(),
            wanted_node=conf.settings().node,
        )
        return {**report.values(), "asking": stop_marks.asking()}


def awaited(values: dict[str, Any]) -> Any:
    """What of a report others wait for: a change of it is told before the next heartbeat is due."""
    return tuple(values[name] for name in _AWAITED)


def held_in_hand(control: HoldSnapshot) -> dict[str, tuple[int, int]]:
    """What the worker has in hand of what ``control`` holds, by queue: (started, not started)."""
    counts = open_requests.counts()
    if control.everything:
        return counts
    return {queue: of_queue for queue, of_queue in counts.items() if queue in control.queues}


def affected(scopes: Iterable[str]) -> dict[str, int]:
    """How many tasks in hand each of ``scopes`` (fleet, node or queue) stops, without those that stop none."""
    counts = open_requests.counts()
    everything = sum(sum(of_queue) for of_queue in counts.values())
    of_queues = {f"queue:{queue}": sum(of_queue) for queue, of_queue in counts.items()}
    found = {
        scope: everything if scope == "fleet" or scope.startswith("node:") else of_queues.get(scope, 0)
        for scope in scopes
    }
    return {scope: count for scope, count in found.items() if count}
