"""What a worker's main process does about holds: it stops the queues they cover and says which version it obeys."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection

from pause_manager import acknowledgements, conf, fleet, log_context
from pause_manager.consumption import consumption
from pause_manager.models import Hold
from pause_manager.probes.processes import node_name
from pause_manager.watcher import Stop, Watch, Watcher

logger = logging.getLogger("pause_manager.obedience")

HOLD, UNREADABLE = "hold", "unreadable"
_SOON = 0.05


class Obedience:
    """Hears the holds on the fleet, on this node and on the worker's queues, and obeys.

    A hold on the fleet or the node stops all queues, one on a queue stops that one, in either mode; the control queue
    is always served. What cannot be read stays as it was; at the start of the worker it counts as held.
    """

    def __init__(self, worker: Any) -> None:
        self.name: str = worker.hostname
        self.node = node_name()
        # Of its own: a pool's children inherit the module's and would act for their parent.
        self._watcher = Watcher()
        self._watch: Watch | None = None
        self._version = 0
        self._unsettled_since: float | None = None

    def start(self) -> None:
        """Obey before the first message is asked for, and from now on."""
        try:
            self._obey()
        except DatabaseError as error:
            logger.warning("Cannot read the holds (%s): nothing is taken until they can be read.", str(error).strip())
            consumption.hold(None, because=UNREADABLE)
        finally:
            connection.close()
        self._watch = self._watcher.watch(
            ["fleet", f"node:{self.node}", *(f"queue:{queue}" for queue in consumption.queues)],
            heartbeat=self._heartbeat,
            beat_seconds=_SOON,
            is_read_now=False,
        )

    def stop(self) -> None:
        """Say goodbye, so that nobody waits for an acknowledgement."""
        if self._watch is None:
            return
        self._watcher.forget(self._watch)
        self._watch = None
        try:
            acknowledgements.leave(self.name)
        except DatabaseError:
            logger.info("Nobody could be told that %s ends: the database is away.", self.name)

    def _heartbeat(self) -> Stop | None:
        """Called by the watcher's thread, at each notice, each poll and each beat."""
        watch = self._watch
        version = self._obey()
        if watch is None:
            return None
        if consumption.is_settled:
            if version != self._version:
                logger.info("Obeys version %d of the fleet switch.", version)
            self._version, self._unsettled_since = version, None
            watch.beat_seconds = conf.settings().worker_beat_seconds
        else:
            # The worker's loop is about to do it, unless the broker is away or a solo pool is at work.
            self._unsettled_since = self._unsettled_since or time.monotonic()
            waited = time.monotonic() - self._unsettled_since
            watch.beat_seconds = min(max(_SOON, waited / 4), conf.settings().worker_beat_seconds)
        acknowledgements.acknowledge(self.name, node=self.node, queues=consumption.queues, version=self._version)
        return None

    def _obey(self) -> int:
        """Stop what is held and nothing else; answers the version that this is true for."""
        # The version first: the holds that are read after it are at least as new.
        state = fleet.state()
        if state.is_readable:
            log_context.know_version(state.version)
        queues = consumption.queues
        scopes = {"fleet", f"node:{self.node}", *(f"queue:{queue}" for queue in queues)}
        held = set(Hold.objects.covering(scopes).values_list("scope", flat=True))
        everything = "fleet" in held or f"node:{self.node}" in held
        of_queues = {scope.removeprefix("queue:") for scope in held if scope.startswith("queue:")}
        changed = consumption.hold(None if everything else of_queues, because=HOLD)
        changed |= consumption.start(because=UNREADABLE)
        if changed:
            logger.info(
                "Version %d of the fleet switch (%s): stopped are %s.",
                state.version,
                f"{state.mode}: {state.reason}" if state.is_paused else "not paused",
                ", ".join(sorted(consumption.stopped)) or "none",
            )
        return state.version
