"""The layers by which work is judged, each by itself: an error in one shows as ``slackwater_gate_degraded``.

| layer | what it reads | on its own error |
|---|---|---|
| ``holds`` | the holds on a run or task: operator, freeze, budget, question, capacity | closed: nothing new starts |
| ``node`` | which nodes live and are held | closed |
| ``fleet`` | the state row of the fleet switch | closed: it counts as paused |
| ``capacity`` | samples, allocations, the admission controller | closed: it waits |
| ``code`` | the stages that a run is at, by the code of the process that asks | closed |
| ``files`` | where the live workers keep files | closed |
| ``dependency`` | the runs that a run waits for by declaration | closed |
| ``lane`` | who is before a run in its lane, and who of them is parked | open: it does not wait for them |
| ``resources`` | the limits of the resources that a stage or task uses, and who has them | closed |
| ``delays`` | when the next batch or stage of a run is due | closed |
| ``gate`` | all of them in the one statement that claims and dispatch ask | closed: no lease, no message |
| ``progress`` | the doorbell that tells pages of progress | open: work continues |
| ``telemetry`` | counts, times and what is only noted | open |

It is told by a signal: the gate imports nothing that knows of a network, and ``metrics`` may send by UDP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection, transaction

from pause_manager.signals import layer_failed

logger = logging.getLogger("pause_manager.observability.gate_health")


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
    except Exception:
        layer_failed.send(None, layer=layer)
        raise
