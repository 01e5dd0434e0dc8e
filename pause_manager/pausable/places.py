"""Room for tasks that start: asked for, or kept. What lost its worker a moment ago has its place on that node still."""

from __future__ import annotations

from dataclasses import dataclass

from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.messaging.message import Delivery
from pause_manager.messaging.readable import clean
from pause_manager.models import PauseQueueEntry, RunningTask
from pause_manager.pausable import running_tasks
from pause_manager.slots import gpus


@dataclass(frozen=True)
class Before:
    """What is known of earlier runs of a message that acknowledges late and needs room."""

    has_begun: bool = False
    place: RunningTask | None = None
    """The row, locked, of the one whose worker was lost a moment ago."""


def before(delivery: Delivery, entry: PauseQueueEntry | None) -> Before:
    """The earlier runs of the message of ``delivery``, which came from ``entry`` or never waited."""
    if delivery.needs is None or not delivery.acks_late:
        return Before()
    if entry is not None:
        runs = RunningTask.objects.filter(entry=entry)
    else:
        runs = RunningTask.objects.filter(task_id=clean(delivery.task_id), entry=None, acks_late=True)
    rows = list(runs.with_age().select_for_update())
    return Before(bool(rows), running_tasks.place_among(rows))


def admit(
    delivery: Delivery, needs: Needs, entry: PauseQueueEntry | None, before: Before, node: str
) -> tuple[str, ...] | str:
    """The ids of the GPUs of a task that may start here, on ``node``, or the sentence that says what is short.

    One that has its place here is not asked for anything: its room is its own. Elsewhere it asks for room, but queues
    behind nobody, and no node is too fresh for it.
    """
    place = before.place
    if place is not None and place.node == node:
        given, seen = tuple(map(str, place.gpus)), gpus.visible_ids()
        if seen is None or set(given) <= set(seen):
            return given
        give_up(before)  # Its cards are seen by another container: it asks for others.
    is_new = entry is None and place is None and not (before.has_begun and delivery.is_redelivered)
    return manager.admit_on(
        node,
        needs,
        pipeline=delivery.policy,
        newcomer=delivery.priority if is_new else None,
        was_parked=lambda: place is None and entry is not None and entry.waits_for == PauseQueueEntry.WaitsFor.CAPACITY,
    )


def give_up(before: Before) -> None:
    """Its run has another place now, or cannot use that one."""
    if before.place is not None:
        running_tasks.forget([before.place.pk])
