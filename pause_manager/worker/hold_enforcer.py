"""Applies what was read of the holds in a worker: the page that its pool reads, its queues, and what it has in hand.

While nothing can be read, nothing starts: what cannot be read counts as held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from pause_manager import conf
from pause_manager.holds import milestones
from pause_manager.messaging.pg_notifications import Notification
from pause_manager.observability import log_context, metrics
from pause_manager.pausable import uses_of
from pause_manager.slots.shared_state import HoldSnapshot, SharedState
from pause_manager.slots.stop_publisher import StopPublisher
from pause_manager.worker.consumption import HOLD, consumption
from pause_manager.worker.decisions import decisions
from pause_manager.worker.event_loop import event_loop
from pause_manager.worker.hold_reader import HoldReader, Reading
from pause_manager.worker.member_report import affected
from pause_manager.worker.open_requests import open_requests

logger = logging.getLogger("pause_manager.worker.hold_enforcer")

UNREADABLE = "unreadable"


class HoldEnforcer:
    """Of one worker."""

    def __init__(self, page: SharedState, publisher: StopPublisher, reader: HoldReader) -> None:
        self._page = page
        self._publisher = publisher
        self._reader = reader
        self.control = HoldSnapshot()
        """What was read last."""
        self.version = 0
        """Of the fleet switch, when it was read last."""
        self.obeyed = (0, 0)
        """Revision and version that are obeyed: nothing comes from a held queue any more."""
        self._stopped: set[str] = set()
        self._node = reader.node
        """What the machine is called in ``_stopped``."""
        self._blind_since: float | None = None
        self._is_foreseen = False
        """Whether the page says more than was read."""

    @property
    def holds_something(self) -> bool:
        """Whether anything of the worker's was held when it read last."""
        return bool(self._stopped)

    @property
    def is_blind(self) -> bool:
        """Whether nothing starts because nothing can be read."""
        return self._blind_since is not None

    def obey(self, reading: Reading) -> None:
        """Tell the pool what was read, and stop and start queues by it."""
        self._publisher.obey(reading.quiesced, read=reading.of_loops)
        control = reading.control
        if control != self.control or self.is_blind or self._is_foreseen:
            self._is_foreseen = False
            self._page.write(control, permit_until=self._permit())
        else:
            self._page.renew(permit_until=self._permit())
        before, self.control = self.control, control
        self.version = reading.version
        log_context.know_version(reading.version)
        if self.is_blind:
            self._blind_since = None
            logger.info("The holds can be read again.")
        self._stop_queues(reading)
        was_stopped, self._stopped = self._stopped_on(self._reader.node), set(reading.held)
        if told := affected(self._stopped - was_stopped):
            # For those who measure how long a hold takes to stop things.
            decisions.do(partial(milestones.note_stopped_tasks, told))
        _take_back(before, control)
        if released := was_stopped - self._stopped:
            decisions.went_on(released)
        decisions.retry()

    def foresee(self, rings: Sequence[Notification]) -> None:
        """Obey a hold as soon as it is heard of; reading it takes a moment more."""
        self._publisher.foresee(rings)
        foreseen = self._reader.foreseen(self.control, rings)
        if foreseen != self.control:
            self._is_foreseen = True
            self._page.write(foreseen, permit_until=self._permit())

    def settle(self) -> bool:
        """Whether what was read is so: the worker's loop has stopped what is held."""
        if not consumption.is_settled:
            return False
        obeyed = (self.control.revision, self.version)
        if obeyed[1] != self.obeyed[1]:
            logger.info("Obeys version %d of the fleet switch.", obeyed[1])
        self.obeyed = obeyed
        return True

    def go_blind(self) -> None:
        """The permit has run out, or never was: take nothing more, and give back what nothing can decide about."""
        if conf.settings().when_blind == "go_on" and self._reader.read_at:
            return
        if not self.is_blind:
            self._blind_since = time.monotonic()
            metrics.DEGRADED.add(layer="holds")
            logger.warning("The holds cannot be read: nothing starts until they can.")
            self._page.renew(permit_until=0.0)
        if consumption.stop_exactly(None, reason=UNREADABLE):
            event_loop.wake()

    def go_blind_if_expired(self) -> None:
        """``go_blind`` once the permit of the last reading has run out."""
        if self.is_blind or not self._page.is_permitted:
            self.go_blind()
            self.give_back()

    def give_back(self) -> None:
        """Have what is held, or what nothing can decide about, kept or given back to the broker."""
        received = open_requests.received(None) if self._stopped else ()
        if any(self.control.covering(one.queue or "", uses_of(one.task)) for one in received):
            # It arrived between the hold and the end of consumption.
            held = None if self.control.everything else set(self.control.queues)
            event_loop.call(partial(decisions.returns.take_back, held, set(self.control.resources)))
        if consumption.is_settled and (self.is_blind or any(request.goes_back for request in open_requests)):
            event_loop.call(partial(decisions.returns.give_back, is_blind=self.is_blind))

    def _permit(self) -> float:
        if conf.settings().when_blind == "go_on":
            return float("inf")
        return self._reader.read_at + conf.settings().permit_seconds

    def _stop_queues(self, reading: Reading) -> None:
        stopped = None if reading.control.everything else set(reading.control.queues)
        changed = consumption.stop_exactly(stopped, reason=HOLD, among=reading.queues)
        changed |= consumption.start(reason=UNREADABLE)
        if changed:
            event_loop.wake()
            logger.info(
                "Version %d of the fleet switch (%s): stopped are %s.",
                reading.version,
                reading.switch,
                ", ".join(sorted(consumption.stopped)) or "none",
            )

    def _stopped_on(self, node: str) -> set[str]:
        """What was stopped, with the machine called ``node``: what was held of it before is held of it still."""
        was, self._node = self._node, node
        return {f"node:{node}" if scope == f"node:{was}" else scope for scope in self._stopped}


def _take_back(before: HoldSnapshot, control: HoldSnapshot) -> None:
    """What a new hold covers and Celery has not started waits elsewhere within moments."""
    if control.everything and not before.everything:
        event_loop.call(partial(decisions.returns.take_back, None))
        return
    queues, used = set(control.queues) - set(before.queues), set(control.resources) - set(before.resources)
    if queues or used:
        event_loop.call(partial(decisions.returns.take_back, queues, used))
