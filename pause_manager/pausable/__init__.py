"""The drop-in: ``PausableTask`` makes any Celery task honor holds. Imports no models, as apps may not be ready."""

from pause_manager.messaging.message import uses_of
from pause_manager.pausable.task import (
    LEFT,
    REFUSED,
    Parked,
    PausableMixin,
    PausableTask,
    check_should_stop,
    every_task,
    given_gpus,
    guard_tasks_of_any_class,
    is_pausable,
    park,
    running,
    try_later,
)

__all__ = [
    "LEFT",
    "REFUSED",
    "Parked",
    "PausableMixin",
    "PausableTask",
    "check_should_stop",
    "every_task",
    "given_gpus",
    "guard_tasks_of_any_class",
    "is_pausable",
    "park",
    "running",
    "try_later",
    "uses_of",
]
