"""The supervisor of a worker: one thread, in its main process, for all processes of its pool.

It listens for changes of holds, reads them once for all, has them obeyed (``hold_enforcer``), and reports what the
worker obeys and has in hand. One connection, one statement per beat, and one more for the loops that are running, see
``slots.stop_publisher``.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from django.db import Error as DatabaseError

from pause_manager import conf, database, workloads
from pause_manager.database.thread import database_thread
from pause_manager.database.watchdog import watchdog
from pause_manager.holds import milestones
from pause_manager.messaging.pg_notifications import Notification
from pause_manager.nodes import members
from pause_manager.nodes.machines import identity
from pause_manager.observability import metrics
from pause_manager.pausable import uses_of
from pause_manager.probes import processes
from pause_manager.slots import shared_state
from pause_manager.slots.listener import SOON, Listener
from pause_manager.slots.overruns import Overruns
from pause_manager.slots.stop_publisher import BACKGROUND_WAIT, HUNG_SECONDS, StopPublisher
from pause_manager.worker.consumption import consumption
from pause_manager.worker.decisions import decisions
from pause_manager.worker.hold_enforcer import HoldEnforcer
from pause_manager.worker.hold_reader import HoldReader
from pause_manager.worker.member_report import MemberReport, awaited, held_in_hand
from pause_manager.worker.open_requests import open_requests

logger = logging.getLogger("pause_manager.worker.supervisor")

TICK = 1.0
GOODBYE_SECONDS = 3.0


class Supervisor:
    """Starts and ends the supervision of a worker. ``worker`` is Celery's ``WorkController``."""

    def __init__(self) -> None:
        self._supervision: Supervision | None = None

    def start(self, worker: Any) -> None:
        """Obey before the first message is asked for, and from now on. What cannot be read counts as held."""
        self._supervision = Supervision(worker)
        self._supervision.start()

    def stop(self) -> None:
        """Say goodbye, so that nobody waits for a report."""
        supervision, self._supervision = self._supervision, None
        if supervision is not None:
            supervision.stop()

    def wake(self) -> None:
        """Read the holds now. From any thread; costs a write to a socket."""
        if self._supervision is not None:
            self._supervision.wake()

    def something_ended(self) -> None:
        """A task has ended, perhaps the last that a hold waits for."""
        if self._supervision is not None:
            self._supervision.something_ended()


class Supervision:
    """Of one worker, from its start to its end."""

    def __init__(self, worker: Any) -> None:
        page = shared_state.current()
        assert page is not None
        self._page = page
        self._listener = Listener()
        self._publisher = StopPublisher(page, lambda: self._reader.node)
        self._overruns = Overruns(page, database_thread.submit)
        uses = {name for task in worker.app.tasks.values() for name in uses_of(task)}
        self._reader = HoldReader(uses, self._publisher.scopes)
        self._enforcer = HoldEnforcer(page, self._publisher, self._reader)
        self._report = MemberReport(worker, {kind.pipeline for kind in workloads.kinds()})
        self._thread = threading.Thread(target=self._run, name="slackwater-supervisor", daemon=True)
        self._is_stopping = False
        self._has_succeeded = False
        """Whether the rows of dead workers of its name are gone."""
        self._told: Any = None
        self._told_held: dict[str, tuple[int, int]] = {}
        self._told_at = 0.0
        self._last_complaint = ""
        self._read_due = 0.0
        self._report_due = 0.0
        self._buried_at = 0.0

    def start(self) -> None:
        # In pools of threads the tasks and we share one interpreter.
        sys.setswitchinterval(min(sys.getswitchinterval(), BACKGROUND_WAIT))
        try:
            self._enforcer.obey(self._reader.look())
            self._enforcer.settle()
        except DatabaseError as error:
            logger.warning("Cannot read the holds (%s): nothing is taken until they can be read.", str(error).strip())
            self._enforcer.go_blind()
        except identity.NameTaken as error:
            self._refused(error)
        finally:
            database.close()
        # What was released while no worker was there may still wait to be told of.
        decisions.went_on(self._reader.scopes())
        self._page.is_supervised = True
        self._thread.start()

    def stop(self) -> None:
        self._is_stopping = True
        self._page.is_supervised = False
        self.wake()
        self._thread.join(timeout=GOODBYE_SECONDS + 1)

    def wake(self) -> None:
        self._listener.was_rung = True
        self._listener.nudge()

    def something_ended(self) -> None:
        if self._enforcer.holds_something:
            self._listener.nudge()

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                with database.own_connection():
                    self._round()
            except DatabaseError as error:
                self._failed(error)
            except identity.NameTaken as error:
                self._refused(error)
                self._listener.wait(TICK)
            except Exception:
                logger.exception("The supervisor failed and continues.")
                self._listener.close()
                time.sleep(TICK)
        self._say_goodbye()
        self._listener.end()

    def _failed(self, error: DatabaseError) -> None:
        if database.is_away(error):
            database.log_outage(error, "reading the holds")
        elif str(error) != self._last_complaint:
            self._last_complaint = str(error)
            logger.exception("The holds cannot be read, whatever the database's state.")
        metrics.DEGRADED.add(layer="holds")
        self._listener.close()
        self._enforcer.go_blind_if_expired()
        self._listener.wait(min(TICK, conf.settings().poll_seconds_without_redis))

    def _refused(self, error: identity.NameTaken) -> None:
        """Under the name of another machine nothing is taken: its holds and its ledger are not ours."""
        if str(error) != self._last_complaint:
            self._last_complaint = str(error)
            logger.error("%s", error)
        self._reader.read_at = 0.0
        self._enforcer.go_blind()
        self._enforcer.give_back()

    def _say_goodbye(self) -> None:
        if not decisions.is_empty:
            return  # What it has in hand is told by its last report, until it counts as lost.
        try:
            with watchdog.limit("the goodbye", GOODBYE_SECONDS):
                members.leave(self._report.name, processes.identity())
        except DatabaseError:
            logger.info("Nobody could be told that %s ends: the database is away.", self._report.name)

    def _round(self) -> None:
        """Wait for something to happen or to be due; then read and report, and see that what was read is so."""
        listener, publisher = self._listener, self._publisher
        listener.open()
        now = time.monotonic()
        listener.wait(max(0.0, min(self._read_due, self._report_due, publisher.due, now + TICK) - now))
        if self._is_stopping:
            return
        rings = listener.rings()
        # What is noted in the slots is looked at after that: who takes one later asks the gate after the change.
        scopes = publisher.scopes().union(self._reader.scopes())
        rings = [ring for ring in rings if not ring.scopes or not scopes.isdisjoint(ring.scopes)]
        listener.was_rung = listener.was_rung or bool(rings)
        is_due = time.monotonic() >= min(self._read_due, self._report_due)
        if listener.was_rung or is_due or self._is_unsettled() or self._has_news():
            self._beat(rings)
        if rings:
            publisher.judge(rings)
        if time.monotonic() >= publisher.due:
            publisher.judge()
        if now > self._buried_at + TICK:
            self._buried_at = now
            publisher.bury()
            self._overruns.look(publisher)
        consumption.enforce()
        self._enforcer.give_back()
        decisions.retry()

    def _beat(self, rings: Sequence[Notification]) -> None:
        listener, enforcer = self._listener, self._enforcer
        was_told, listener.was_rung = listener.was_rung, False
        if rings:
            enforcer.foresee(rings)
        before = enforcer.control.revision
        held, report = held_in_hand(enforcer.control), self._values()
        if not self._has_succeeded:
            with watchdog.limit("the worker before", HUNG_SECONDS):
                members.succeed(self._report.name, processes.identity())
            self._has_succeeded = True
        enforcer.obey(self._reader.beat(report))
        self._last_complaint = ""
        self._told_held, self._told, self._told_at = held, awaited(report), time.monotonic()
        if enforcer.control.revision != before and not was_told:
            listener.missed_one()
        is_settled = enforcer.settle()
        now = time.monotonic()
        settings = conf.settings()
        self._read_due = now + (settings.poll_seconds if listener.hears else settings.poll_seconds_without_redis)
        self._report_due = now + settings.worker_beat_seconds
        if not is_settled:
            self._report_due = now + SOON
        elif (report["revision"], report["version"]) != enforcer.obeyed:
            self._report_due = now  # Somebody waits to hear that it is obeyed.
        if is_settled and enforcer.holds_something:
            database_thread.submit("rest of holds", metrics.guarded(milestones.detect_drained))

    def _is_unsettled(self) -> bool:
        """Whether somebody waits for a report: a change is not obeyed yet, or something held has come or gone."""
        enforcer = self._enforcer
        if (enforcer.control.revision, enforcer.version) != enforcer.obeyed:
            return True
        if not enforcer.holds_something or held_in_hand(enforcer.control) == self._told_held:
            return False
        # However fast tasks end, they end between two reports.
        self._report_due = min(self._report_due, self._told_at + SOON)
        return time.monotonic() >= self._told_at + SOON

    def _has_news(self) -> bool:
        """Whether what is in hand has changed since the last report; asked once a tick."""
        if time.monotonic() < self._told_at + TICK:
            return False
        return bool(awaited(self._values()) != self._told)

    def _values(self) -> dict[str, Any]:
        return self._report.values(self._reader.node, *self._enforcer.obeyed)


supervisor = Supervisor()
"""The one of this process; it runs in the main process of a worker only."""
open_requests.on_change = supervisor.something_ended
decisions.writes.tell_supervisor = supervisor.wake
