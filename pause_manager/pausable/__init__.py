"""The drop-in: ``PausableTask`` makes any Celery task honor holds. Imports no models, as apps may not be ready."""

from importlib import import_module
from typing import Any

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
)

__all__ = [
    "LEFT",
    "REFUSED",
    "Parked",
    "PausableMixin",
    "PausableRequest",
    "PausableTask",
    "check_should_stop",
    "every_task",
    "given_gpus",
    "guard_tasks_of_any_class",
    "is_pausable",
    "park",
    "running",
]


def __getattr__(name: str) -> Any:
    # A worker's Celery finds it here by name; its module needs models, so that elsewhere it is not imported.
    if name == "PausableRequest":
        return import_module("pause_manager.worker.request").PausableRequest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
