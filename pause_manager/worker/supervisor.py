"""The supervisor of a worker: one watcher, in its main process, for all processes of its pool.

It hears the doorbell, reads the holds once, writes them to the page that the pool reads, stops the queues that they
cover, and reports what the worker obeys and has in hand. One connection, one statement per beat, and one more for the
loops that are running, see ``keeper``.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection

from pause_manager import conf, database, workloads
from pause_manager.database.thread import database_thread
from pause_manager.database.watchdog import watchdog
from pause_manager.holds import fleet_state, milestones
from pause_manager.holds.stops import Stop, told_of_hold
from pause_manager.messaging.pg_notifications import Notification
from pause_manager.models import ControlState, Hold
from pause_manager.nodes import members
from pause_manager.nodes.machines import identity, renaming
from pause_manager.nodes.members import Report
from pause_manager.observability import log_context, metrics
from pause_manager.pausable import running_tasks, uses_of
from pause_manager.probes import processes
from pause_manager.scopes import resource
from pause_manager.slots import gpus, shared_state
from pause_manager.slots.listener import SOON, Listener
from pause_manager.slots.overruns import Overruns
from pause_manager.slots.shared_state import ActiveHold, HoldSnapshot
from pause_manager.slots.stop_publisher import BACKGROUND_WAIT, StopPublisher
from pause_manager.worker.consumption import HOLD, consumption
from pause_manager.worker.decisions import decisions
from pause_manager.worker.event_loop import event_loop
from pause_manager.worker.open_requests import open_requests
from pause_manager.worker.stop_marks import stop_marks

logger = logging.getLogger("pause_manager.worker.supervisor")

UNREADABLE = "unreadable"
TICK = 1.0
GOODBYE_SECONDS = 3.0
HUNG_SECONDS = 10.0
"""A statement that has not been answered by then is broken off with its connection."""

_HOLD, _CONTROL = (model._meta.db_table for model in (Hold, ControlState))

_READ = f"""
    SELECT control.revision, control.version, control.is_paused, control.mode, control.reason,
           (SELECT coalesce(json_agg(json_build_array(scope, kind, mode, reason) ORDER BY id), '[]'::json)
              FROM {_HOLD} WHERE released_at IS NULL AND scope = ANY(%(scopes)s)),
           {{yields}}, {{node}}
      FROM {_CONTROL} AS control WHERE id = 1
"""
_LOOK = _READ.format(yields="'[]'::json", node=f"(SELECT name FROM {identity.MACHINE} WHERE boot_id = %(boot_id)s)")
# The report first: it has the machine's row before the rows of its tasks, as who renames it.
_BEAT = f"""
    WITH report AS ({members.REPORT}),
         beat AS (
             {running_tasks.HEARTBEAT} AND (SELECT count(*) FROM report) = 1 RETURNING turn, stop_reason
         )
""" + _READ.format(
    yields="(SELECT coalesce(json_agg(json_build_array(turn, stop_reason)), '[]'::json)"
    " FROM beat WHERE stop_reason <> '')",
    node="(SELECT node FROM report)",
)


class Supervisor:
    """Of one worker. ``worker`` is Celery's ``WorkController``."""

    def __init__(self) -> None:
        self._page: shared_state.SharedState | None = None
        self._keeper: StopPublisher | None = None
        self._overruns: Overruns | None = None
        self._worker: Any = None
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._listener: Listener | None = None
        self._control = HoldSnapshot()
        self._version = 0
        self._obeyed = (0, 0)
        """Revision and version that are obeyed: nothing comes from a held queue any more."""
        self._has_succeeded = False
        """Whether the rows of dead workers of its name are gone."""
        self._is_foreseen = False
        """Whether the page says more than was read."""
        self._told: Any = None
        self._told_held: dict[str, tuple[int, int]] = {}
        self._told_at = 0.0
        self._last_complaint = ""
        self._read_at = 0.0
        self._read_queues: frozenset[str] = frozenset()
        self._read_scopes: list[str] = []
        self._read_of_loops: set[str] = set()
        self._read_due = 0.0
        self._report_due = 0.0
        self._buried_at = 0.0
        self._blind_since: float | None = None
        self._stopped: set[str] = set()
        self._pipelines: set[str] = set()
        self._resources: set[str] = set()
        """What the tasks that it knows use outside."""
        self.name = ""
        self.node = ""

    def start(self, worker: Any) -> None:
        """Obey before the first message is asked for, and from now on. What cannot be read counts as held."""
        self._worker, self._is_stopping, self._has_succeeded = worker, False, False
        self._page = shared_state.current()
        assert self._page is not None
        self._keeper = StopPublisher(self._page, lambda: self.node)
        self._overruns = Overruns(self._page, database_thread.submit)
        self.name, self.node = worker.hostname, identity.known_name()
        self._resources = {name for task in worker.app.tasks.values() for name in uses_of(task)}
        self._pipelines = {kind.pipeline for kind in workloads.kinds()}
        # In pools of threads the tasks and we share one interpreter.
        sys.setswitchinterval(min(sys.getswitchinterval(), BACKGROUND_WAIT))
        self._listener = Listener()
        self._control, self._obeyed, self._told, self._blind_since = HoldSnapshot(), (0, 0), None, None
        try:
            self._obey(self._read(_LOOK, {}))
            self._settle_obeyed()
        except DatabaseError as error:
            logger.warning("Cannot read the holds (%s): nothing is taken until they can be read.", str(error).strip())
            self._go_blind()
        except identity.NameTaken as error:
            self._refused(error)
        finally:
            database.close()
        # What was released while no worker was there may still wait to be told of.
        decisions.went_on(self._scopes())
        self._page.is_supervised = True
        self._thread = threading.Thread(target=self._run, name="slackwater-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye, so that nobody waits for a report."""
        if self._thread is None:
            return
        self._is_stopping = True
        if self._page is not None:
            self._page.is_supervised = False
        self.wake()
        self._thread.join(timeout=GOODBYE_SECONDS + 1)
        self._thread = None

    def _say_goodbye(self) -> None:
        if not decisions.is_empty:
            return  # What it has in hand is told by its last report, until it counts as lost.
        try:
            with watchdog.limit("the goodbye", GOODBYE_SECONDS):
                members.leave(self.name, processes.identity())
        except DatabaseError:
            logger.info("Nobody could be told that %s ends: the database is away.", self.name)

    def wake(self) -> None:
        """Read the holds now. From any thread; costs a write to a socket."""
        if self._listener is not None:
            self._listener.was_rung = True
            self._listener.nudge()

    def something_ended(self) -> None:
        """A task has ended, perhaps the last that a hold waits for."""
        if self._stopped and self._listener is not None:
            self._listener.nudge()

    def _scopes(self) -> list[str]:
        return [
            "fleet",
            f"node:{self.node}",
            *(f"queue:{queue}" for queue in sorted(consumption.queues)),
            *map(resource, sorted(self._resources)),
        ]

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, statement: str, values: dict[str, Any]) -> Any:
        """One statement; the row, with its times kept. Raises ``DatabaseError`` and ``machines.NameTaken``."""
        asked = shared_state.now()
        with watchdog.limit("the name of the machine", HUNG_SECONDS):
            self._be_on(renaming.settle_name())
        row = self._ask(statement, values)
        while row[-1] not in (None, self.node):  # Renamed meanwhile: the holds of a node that is gone were read.
            self._be_on(row[-1])
            row = self._ask(statement, values)
        self._read_at, self._last_complaint = asked, ""
        return row[:-1]

    def _be_on(self, node: str) -> None:
        """The machine's name is ``node``: what was held of it before is held of it still."""
        was, self.node = self.node, node
        if was != node:
            self._stopped = {f"node:{node}" if scope == f"node:{was}" else scope for scope in self._stopped}

    def _ask(self, statement: str, values: dict[str, Any]) -> Any:
        assert self._keeper is not None
        self._read_queues = consumption.queues
        self._read_scopes, self._read_of_loops = self._scopes(), self._keeper.scopes()
        scopes = sorted(self._read_of_loops.union(self._read_scopes))
        values = {"scopes": scopes, "boot_id": processes.boot_id(), **values}
        with watchdog.limit("the holds", HUNG_SECONDS), connection.cursor() as cursor:
            cursor.execute(statement, values)
            row = cursor.fetchone()
            if row is None:
                fleet_state.read()  # makes the row again
                cursor.execute(statement, values)
                row = cursor.fetchone()
        return row

    def _obey(self, row: Any) -> None:
        """Tell the pool what was read, and stop and start queues by it."""
        revision, version, is_paused, mode, reason, holds, yields = row
        found: dict[str, ActiveHold] = {}
        for scope, kind, mode_, why in _decoded(holds):
            if scope not in found or mode_ == Hold.Mode.QUIESCE:
                found[scope] = ActiveHold(mode_, told_of_hold(scope, kind, why))
        assert self._page is not None
        assert self._keeper is not None
        quiesced = {scope: Stop("held", one.sentence) for scope, one in found.items() if one.quiesces}
        self._keeper.obey(quiesced, read=self._read_of_loops)
        held = {scope: found[scope] for scope in self._read_scopes if scope in found}
        everything = [held[scope] for scope in ("fleet", f"node:{self.node}") if scope in held]
        queues = _of_kind("queue:", held)
        control = HoldSnapshot(
            revision=revision,
            everything=next((one for one in everything if one.quiesces), everything[0] if everything else None),
            queues=queues,
            yields={str(turn): sentence for turn, sentence in _decoded(yields)},
            resources=_of_kind("resource:", held),
        )
        if control != self._control or self._blind_since is not None or self._is_foreseen:
            self._is_foreseen = False
            self._page.write(control, permit_until=self._permit())
        else:
            self._page.renew(permit_until=self._permit())
        before, self._control = self._control, control
        self._version = version
        log_context.know_version(version)
        if self._blind_since is not None:
            self._blind_since = None
            logger.info("The holds can be read again.")
        stopped = None if control.everything else set(queues)
        changed = consumption.stop_exactly(stopped, reason=HOLD, among=self._read_queues)
        changed |= consumption.start(reason=UNREADABLE)
        if changed:
            event_loop.wake()
            logger.info(
                "Version %d of the fleet switch (%s): stopped are %s.",
                version,
                f"{mode}: {reason}" if is_paused else "not paused",
                ", ".join(sorted(consumption.stopped)) or "none",
            )
        now_stopped = set(held)
        if new := now_stopped - self._stopped:
            self._tell_what_stops(new)
        self._take_back(before, control)
        if released := self._stopped - now_stopped:
            decisions.went_on(released)
        self._stopped = now_stopped
        decisions.retry()

    def _tell_what_stops(self, scopes: set[str]) -> None:
        """How much of ours a new hold stops, for those who measure how long it takes."""
        counts = open_requests.counts()
        everything = sum(sum(of_queue) for of_queue in counts.values())
        found = {"fleet": everything, f"node:{self.node}": everything}
        found |= {f"queue:{queue}": sum(of_queue) for queue, of_queue in counts.items()}
        if told := {scope: found[scope] for scope in scopes if found.get(scope)}:
            decisions.do(partial(milestones.note_stopped_tasks, told))

    def _take_back(self, before: HoldSnapshot, control: HoldSnapshot) -> None:
        """What a new hold covers and Celery has not started waits elsewhere within moments."""
        if control.everything and not before.everything:
            event_loop.call(partial(decisions.take_back, None))
            return
        queues, used = set(control.queues) - set(before.queues), set(control.resources) - set(before.resources)
        if queues or used:
            event_loop.call(partial(decisions.take_back, queues, used))

    def _permit(self) -> float:
        if conf.settings().when_blind == "go_on":
            return float("inf")
        return self._read_at + conf.settings().permit_seconds

    def _go_blind(self) -> None:
        """The permit has run out, or never was: take nothing more, and give back what nothing can decide about."""
        if conf.settings().when_blind == "go_on" and self._read_at:
            return
        if self._blind_since is None:
            self._blind_since = time.monotonic()
            metrics.DEGRADED.add(layer="holds")
            logger.warning("The holds cannot be read: nothing starts until they can.")
            if self._page is not None:
                self._page.renew(permit_until=0.0)
        if consumption.stop_exactly(None, reason=UNREADABLE):
            event_loop.wake()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        listener = self._listener
        assert listener is not None
        while not self._is_stopping:
            try:
                with database.own_connection():
                    self._round(listener)
            except DatabaseError as error:
                self._failed(error, listener)
            except identity.NameTaken as error:
                self._refused(error)
                listener.wait(TICK)
            except Exception:
                logger.exception("The supervisor failed and continues.")
                listener.close()
                time.sleep(TICK)
        self._say_goodbye()
        listener.end()

    def _failed(self, error: DatabaseError, listener: Listener) -> None:
        if database.is_away(error):
            database.log_outage(error, "reading the holds")
        elif str(error) != self._last_complaint:
            self._last_complaint = str(error)
            logger.exception("The holds cannot be read, whatever the database's state.")
        metrics.DEGRADED.add(layer="holds")
        listener.close()
        self._if_blind()
        listener.wait(min(TICK, conf.settings().poll_seconds_without_redis))

    def _refused(self, error: identity.NameTaken) -> None:
        """Under the name of another machine nothing is taken: its holds and its books are not ours."""
        if str(error) != self._last_complaint:
            self._last_complaint = str(error)
            logger.error("%s", error)
        self._read_at = 0.0
        self._go_blind()
        self._give_back()

    def _if_blind(self) -> None:
        if self._page is not None and (self._blind_since is not None or not self._page.is_permitted):
            self._go_blind()
            self._give_back()

    def _round(self, listener: Listener) -> None:
        """Wait for something to happen or to be due; then read and report, and see that what was read is so."""
        listener.open()
        assert self._keeper is not None
        assert self._overruns is not None
        now = time.monotonic()
        listener.wait(max(0.0, min(self._read_due, self._report_due, self._keeper.due, now + TICK) - now))
        if self._is_stopping:
            return
        rings = listener.rings()
        # What is noted in the slots is looked at after that: who takes one later asks the gate after the change.
        scopes = self._keeper.scopes().union(self._scopes())
        rings = [ring for ring in rings if not ring.scopes or not scopes.isdisjoint(ring.scopes)]
        listener.was_rung = listener.was_rung or bool(rings)
        is_due = time.monotonic() >= min(self._read_due, self._report_due)
        if listener.was_rung or is_due or self._is_unsettled() or self._has_news():
            self._beat(rings, listener)
        if rings:
            self._keeper.judge(rings)
        if time.monotonic() >= self._keeper.due:
            self._keeper.judge()
        if now > self._buried_at + TICK:
            self._buried_at = now
            self._keeper.bury()
            self._overruns.look(self._keeper)
        consumption.enforce()
        self._give_back()
        decisions.retry()

    def _beat(self, rings: Sequence[Notification], listener: Listener) -> None:
        was_told, listener.was_rung = listener.was_rung, False
        if rings:
            self._foresee(rings)
        before = self._control.revision
        told_held, told = self._held_in_hand(), self._what_to_report()
        if not self._has_succeeded:
            with watchdog.limit("the worker before", HUNG_SECONDS):
                members.succeed(self.name, processes.identity())
            self._has_succeeded = True
        self._obey(self._read(_BEAT, told))
        self._told_held = told_held
        self._told, self._told_at = self._key(told), time.monotonic()
        if self._control.revision != before and not was_told:
            listener.missed_one()
        settled = self._settle_obeyed()
        now = time.monotonic()
        settings = conf.settings()
        self._read_due = now + (settings.poll_seconds if listener.hears else settings.poll_seconds_without_redis)
        self._report_due = now + settings.worker_beat_seconds
        if not settled:
            self._report_due = now + SOON
        elif (told["revision"], told["version"]) != self._obeyed:
            self._report_due = now  # Somebody waits to hear that it is obeyed.
        if settled and self._stopped:
            database_thread.submit("rest of holds", metrics.guarded(milestones.detect_drained))

    def _foresee(self, rings: Sequence[Notification]) -> None:
        """Obey a hold as soon as it is heard of; reading it takes a moment more."""
        assert self._page is not None
        assert self._keeper is not None
        self._keeper.foresee(rings)
        everything, queues, used = self._control.everything, dict(self._control.queues), dict(self._control.resources)
        for ring in rings:
            if ring.change != "placed":
                continue
            for scope in ring.scopes:
                told = ActiveHold(ring.mode, told_of_hold(scope, ring.kind, ring.reason))
                if scope in ("fleet", f"node:{self.node}"):
                    everything = everything or told
                elif scope.startswith("queue:"):
                    queues.setdefault(scope.removeprefix("queue:"), told)
                elif scope.startswith("resource:"):
                    used.setdefault(scope.removeprefix("resource:"), told)
        foreseen = HoldSnapshot(self._control.revision, everything, queues, self._control.yields, used)
        if foreseen == self._control:
            return
        self._is_foreseen = True
        self._page.write(foreseen, permit_until=self._permit())

    def _settle_obeyed(self) -> bool:
        """Whether what was read is so: the worker's loop has stopped what is held."""
        if not consumption.is_settled:
            return False
        obeyed = (self._control.revision, self._version)
        if obeyed[1] != self._obeyed[1]:
            logger.info("Obeys version %d of the fleet switch.", obeyed[1])
        self._obeyed = obeyed
        return True

    def _is_unsettled(self) -> bool:
        """Whether somebody waits for a report: a change is not obeyed yet, or something held has come or gone."""
        if (self._control.revision, self._version) != self._obeyed:
            return True
        if not self._stopped or self._held_in_hand() == self._told_held:
            return False
        # However fast tasks end, they end between two reports.
        self._report_due = min(self._report_due, self._told_at + SOON)
        return time.monotonic() >= self._told_at + SOON

    def _held_in_hand(self) -> dict[str, tuple[int, int]]:
        counts = open_requests.counts()
        if self._control.everything:
            return counts
        return {queue: of_queue for queue, of_queue in counts.items() if queue in self._control.queues}

    def _has_news(self) -> bool:
        """Whether what is in hand has changed since the last report; asked once a tick."""
        if time.monotonic() < self._told_at + TICK:
            return False
        return bool(self._key(self._what_to_report()) != self._told)

    def _what_to_report(self) -> dict[str, Any]:
        revision, version = self._obeyed
        report = Report(
            self.name,
            self.node,
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

    @staticmethod
    def _key(told: dict[str, Any]) -> Any:
        """What of a report others wait for."""
        return (told["revision"], told["version"], told["in_hand"], told["serves"], told["visible_gpus"], told["files"])

    def _give_back(self) -> None:
        received = open_requests.received(None) if self._stopped else ()
        if any(self._control.covering(one.queue or "", uses_of(one.task)) for one in received):
            # It arrived between the hold and the end of consumption.
            held = None if self._control.everything else set(self._control.queues)
            event_loop.call(partial(decisions.take_back, held, set(self._control.resources)))
        if consumption.is_settled:
            is_blind = self._blind_since is not None
            if is_blind or any(request.goes_back for request in open_requests):
                event_loop.call(partial(decisions.give_back, is_blind=is_blind))


def _of_kind(prefix: str, held: Mapping[str, ActiveHold]) -> dict[str, ActiveHold]:
    return {scope.removeprefix(prefix): one for scope, one in held.items() if scope.startswith(prefix)}


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


supervisor = Supervisor()
"""The one of this process; it runs in the main process of a worker only."""
open_requests.on_change = supervisor.something_ended
decisions.writes.tell_supervisor = supervisor.wake
