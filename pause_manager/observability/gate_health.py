"""The layers by which work is judged, each by itself: an error in one shows as ``slackwater_gate_degraded``.

It is told by a signal: the gate imports nothing that knows of a network, and ``metrics`` may send by UDP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum

from django.db import connection, transaction

from pause_manager.database.prepared import NotKept
from pause_manager.signals import layer_failed

logger = logging.getLogger("pause_manager.observability.gate_health")


class Layer(StrEnum):
    """Every layer, what it reads, and whether work continues when it cannot be read (open) or nothing new starts."""

    reads: str
    is_open: bool

    def __new__(cls, name: str, reads: str = "", is_open: bool = False) -> Layer:
        member = str.__new__(cls, name)
        member._value_ = name
        member.reads = reads
        member.is_open = is_open
        return member

    HOLDS = "holds", "the holds on a run or task: operator, window, freeze, budget, question, capacity, a resource"
    NODE = "node", "which nodes live and are held"
    FLEET = "fleet", "the state row of the fleet switch: unreadable counts as paused"
    CAPACITY = "capacity", "samples, allocations, the admission controller: work waits"
    CODE = "code", "the stages that a run is at, by the code of the process that asks"
    FILES = "files", "where the live workers keep files"
    DEPENDENCY = "dependency", "the runs that a run waits for by declaration"
    LANE = "lane", "who is before a run in its lane, and who of them is parked: it does not wait for them", True
    RESOURCES = "resources", "the limits of the resources that a stage or task uses, and who has them"
    DELAYS = "delays", "when the next batch or stage of a run is due"
    OVERRIDES = "overrides", "the limits that an operator has set for a while, such as the loops of a stage"
    GATE = "gate", "all of them in the one statement that claims and dispatch ask: no lease, no message"
    PROGRESS = "progress", "the doorbell that tells pages of progress", True
    TELEMETRY = "telemetry", "counts, times and what is only noted", True


@contextmanager
def guarded_read(layer: str) -> Iterator[None]:
    """Guard a read of ``layer``: an error is logged, counted and raised, and the caller's transaction survives it."""
    try:
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            yield
    except Exception:
        logger.exception("The layer %s of the gate could not be judged.", layer)
        layer_failed.send(None, layer=layer)
        raise


@contextmanager
def counted(layer: str) -> Iterator[None]:
    """Count an error of ``layer`` and raise it; without a savepoint, for callers whose transaction it ends anyway."""
    try:
        yield
    except NotKept:
        raise  # the caller begins again
    except Exception:
        layer_failed.send(None, layer=layer)
        raise
