"""The rows of the pause manager. Each is written by the one file that its docstring names."""

from pause_manager.models.counters import CounterSample, CounterTotal
from pause_manager.models.events import ControlEvent, ControlEventQuerySet, IdempotencyRecord
from pause_manager.models.failed_tasks import FailedTask
from pause_manager.models.fleet import ControlState, FleetWorker
from pause_manager.models.holds import SCOPE, SCOPES, Hold, HoldQuerySet
from pause_manager.models.machine import Machine
from pause_manager.models.nodes import CapacitySample, WorkerNode, WorkerNodeQuerySet
from pause_manager.models.overrides import Override, OverrideQuerySet
from pause_manager.models.queue import PauseQueueEntry, PauseQueueQuerySet, PollState
from pause_manager.models.resources import Resource
from pause_manager.models.tasks import RunningTask, RunningTaskQuerySet
from pause_manager.models.waiting import WaitingSample
from pause_manager.models.windows import PauseWindow

__all__ = [
    "SCOPE",
    "SCOPES",
    "CapacitySample",
    "ControlEvent",
    "ControlEventQuerySet",
    "ControlState",
    "CounterSample",
    "CounterTotal",
    "FailedTask",
    "FleetWorker",
    "Hold",
    "HoldQuerySet",
    "IdempotencyRecord",
    "Machine",
    "Override",
    "OverrideQuerySet",
    "PauseQueueEntry",
    "PauseQueueQuerySet",
    "PauseWindow",
    "PollState",
    "Resource",
    "RunningTask",
    "RunningTaskQuerySet",
    "WaitingSample",
    "WorkerNode",
    "WorkerNodeQuerySet",
]
