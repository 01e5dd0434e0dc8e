"""``PausableTask``: the drop-in that makes anybody's Celery task obey holds. Imports no models: apps may not be ready.

The worker's tracer is wrapped, so it is the same in every pool and nothing of Celery runs before we have asked: no
signal, no STARTED, no ``before_start``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from billiard.einfo import ExceptionInfo
from celery import Task, signals
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore, Reject
from celery.states import IGNORED, REJECTED

from pause_manager.acknowledging import SureRequest
from pause_manager.delivery import CONTENT, ENTRY, Delivery, parsed
from pause_manager.needs import Needs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pause_manager.kept import Turn
    from pause_manager.running import Running
    from pause_manager.watcher import Watch

logger = logging.getLogger("pause_manager.pausable")

RETRY_SECONDS = 1.0
GIVE_BACK_SECONDS = 5.0
"""A late acknowledging message is given back to the broker when the database has been away for so long."""

Tracer = Callable[..., Any]


class Parked(Ignore):
    """Raised by a task to leave: ``raise self.park(...)``. To Celery it is an ``Ignore``; the rest is kept after."""

    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None


class PausableRequest(SureRequest):
    """Celery's request, which also tells the pool how the body was serialised."""

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        super().__init__(message, *args, **options)
        if not options.get("decoded"):
            self.request_dict[CONTENT] = message.content_type


class PausableTask(Task):  # type: ignore[type-arg]
    """A task that does not start while a hold covers it (fleet, its queue, its node): its message waits and is sent on.

    With ``needs`` it also waits for room, by the ``policy`` of that name. ``pausable = False`` switches it off.
    """

    abstract = True
    Request = "pause_manager.pausable:PausableRequest"
    pausable: ClassVar[bool] = True
    needs: ClassVar[Needs | Mapping[str, Any] | None] = None
    policy: ClassVar[str] = ""
    """One of ``PAUSE_MANAGER["pipeline_policies"]``; the fleet's if it is none of them."""

    _trace: Tracer | None = None

    @property
    def __trace__(self) -> Tracer | None:
        """What runs a delivery; Celery builds it and puts it here."""
        return self._trace

    @__trace__.setter
    def __trace__(self, tracer: Tracer | None) -> None:
        self._trace = partial(_trace, self, tracer) if tracer is not None and self.pausable else tracer

    def check_should_stop(self) -> tuple[bool, str]:
        """Whether it should leave, and why: a quiesce covers it, or strangers need what it declared.

        For its own loops: from memory, in under a microsecond. The first call of a process, or of a task with needs,
        asks the database. Called outside a worker it says no.
        """
        run: _Run | None = getattr(_current, "run", None)
        if run is None:
            return _GO_ON
        stop = (run.watch or run.watched()).stop
        return _GO_ON if stop is None else (True, stop.sentence)

    def park(self, *args: Any, **kwargs: Any) -> Parked:
        """``raise self.park(rest)`` leaves at a boundary: the task runs again, with these arguments, when it may.

        It keeps its id, its place in chain, group and chord, and its links. The arguments are those of a call; none at
        all means those that it has now. Raises ``RuntimeError`` outside a worker.
        """
        if getattr(_current, "run", None) is None:
            raise RuntimeError(f"Cannot park {self.name}: it does not run in a worker.")
        parked = Parked(f"{self.name} is parked")
        parked.arguments = (args, kwargs) if args or kwargs else None
        return parked


class _Run:
    """What a task that runs in this thread (or greenlet) needs to know."""

    __slots__ = ("delivery", "has_own_watch", "turn", "watch")

    def __init__(self, delivery: Delivery, turn: Turn) -> None:
        self.delivery = delivery
        self.turn = turn
        self.watch: Watch | None = None
        self.has_own_watch = False

    def watched(self) -> Watch:
        """The watch of the task's queue, which its tasks in this process share; of one that may yield, its own."""
        from pause_manager import conf
        from pause_manager.running import scopes
        from pause_manager.watcher import watcher

        key = (os.getpid(), self.delivery.queue)
        if self.delivery.needs is not None and conf.settings().capacity:
            self.watch, self.has_own_watch = self._own_watch(), True
        else:
            if key not in _watches:
                _watches[key] = watcher.watch(scopes(self.delivery))
            self.watch = _watches[key]
        return self.watch

    def _own_watch(self) -> Watch:
        from django.db import Error as DatabaseError

        from pause_manager.running import register, scopes
        from pause_manager.watcher import watcher

        covering, ask = scopes(self.delivery), partial(register.ask, self.turn.row)
        try:
            return watcher.watch(covering, heartbeat=ask)
        except DatabaseError as error:
            logger.warning("The database is away (%s): %s is told later what it asks.", error, self.delivery.ref)
            return watcher.watch(covering, heartbeat=ask, is_read_now=False)

    def forget(self) -> None:
        """It has ended."""
        if self.has_own_watch and self.watch is not None:
            from pause_manager.watcher import watcher

            watcher.forget(self.watch)


_GO_ON = (False, "")
_current = threading.local()
_watches: dict[tuple[int, str], Watch] = {}


def running() -> list[Running]:
    """Every pausable task at work in the fleet, the oldest first."""
    from pause_manager.running import running

    return running()


def _trace(task: PausableTask, tracer: Tracer, uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
    """What Celery calls in the pool instead of ``tracer``."""
    delivery = Delivery.of(task, uuid, args, kwargs, request or {})
    if delivery is None:
        return tracer(uuid, args, kwargs, request)
    turn = _turn(delivery)
    if not hasattr(turn, "row"):
        return turn
    from pause_manager.running import register

    outer = getattr(_current, "run", None)
    run = _current.run = _Run(delivery, turn)
    try:
        traced = tracer(uuid, args, kwargs, delivery.request)
        left: Any = traced.info.retval if traced.info is not None else None
        if isinstance(left, Parked):
            _keep_rest(run, left)
            traced = _ignored(str(left))
        elif isinstance(left, Reject) and getattr(left, "requeue", False):
            register.abandon(turn.row)
    except BaseException:
        register.abandon(turn.row)
        raise
    finally:
        _current.run = outer
        run.forget()
        register.leave(turn.row, delivery)
    return traced


def _turn(delivery: Delivery) -> Any:
    """The delivery's :class:`Turn`, or what the tracer answers for one that does not run."""
    from django.db import Error as DatabaseError
    from django.db import connection

    from pause_manager import kept, metrics
    from pause_manager.running import register

    since = time.monotonic()
    while True:
        try:
            if delivery.entry is None and delivery.needs is None and not delivery.is_redelivered:
                row = register.enter(delivery)
                if row is not None:
                    return kept.Turn(row)
            turn = kept.settle(delivery)
            if turn is None:
                return _ignored(f"{delivery.task_name} waits or was answered before")
            if register.may_start(turn.row, delivery):
                return turn
        except DatabaseError as error:
            # What cannot be read starts nothing, and what cannot be written is not let go.
            logger.warning("The database is away (%s): %s waits.", error, delivery.ref)
            metrics.DEGRADED.add(layer="holds")
            connection.close()
            if delivery.acks_late and time.monotonic() > since + GIVE_BACK_SECONDS:
                return _told(REJECTED, Reject(error, requeue=True))
            time.sleep(RETRY_SECONDS)


def _keep_rest(run: _Run, left: Parked) -> None:
    from django.db import Error as DatabaseError
    from django.db import connection

    from pause_manager import kept
    from pause_manager.running import YIELD

    args, kwargs = left.arguments or (run.delivery.args, run.delivery.kwargs)
    stop = run.watch.stop if run.watch is not None else None
    reason = stop.sentence if stop is not None else "the task left at a boundary of its own"
    # What gives way to strangers waits for room, not for a hold to go.
    was_held = stop is not None and stop.code != YIELD
    while True:
        try:
            kept.keep_rest(run.delivery, run.turn, args, kwargs, reason=reason, was_told=was_held)
            return
        except DatabaseError as error:
            logger.warning("The database is away (%s): the rest of %s waits.", error, run.delivery.ref)
            connection.close()
            time.sleep(RETRY_SECONDS)


def _ignored(why: str) -> Any:
    return _told(IGNORED, Ignore(why))


def _told(state: str, exception: Exception) -> Any:
    """What Celery's own tracer answers for a task that raised ``exception``: acknowledged or given back, no result."""
    try:
        raise exception
    except (Ignore, Reject):
        return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(state, exception), 0.0, None)


@signals.task_revoked.connect
def _on_revoked(sender: Any = None, request: Any = None, terminated: bool = False, **_: Any) -> None:
    """In the worker: a message that Celery throws away is answered; a task that it ended has ended."""
    if isinstance(sender, PausableTask) and sender.pausable:
        if terminated:
            _forget_run(request.id, request.hostname)
        _close(getattr(request, ENTRY, None))


@signals.task_unknown.connect
def _on_unknown(message: Any = None, **_: Any) -> None:
    _close((getattr(message, "headers", None) or {}).get(ENTRY))


@signals.task_failure.connect
def _on_failure(sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
    """In the worker: the pool's process was lost or its time was over, and Celery has said that the task failed."""
    if not isinstance(sender, PausableTask):
        return
    what = type(exception).__name__
    comes_again = sender.acks_late and not getattr(sender, "acks_on_timeout", True)
    if what == "WorkerLostError" or (what == "TimeLimitExceeded" and not comes_again):
        _forget_run(task_id, sender.request.hostname)
        _close(getattr(sender.request, ENTRY, None))


def _close(header: Any) -> None:
    if header:
        from pause_manager import kept

        named = parsed(header)
        if named is not None:
            _in_worker(lambda: kept.close(named))


def _forget_run(task_id: str, hostname: str | None) -> None:
    def forget() -> None:
        from pause_manager.models import RunningTask

        rows = RunningTask.objects.filter(task_id=task_id)
        (rows.filter(worker=hostname) if hostname else rows).delete()

    _in_worker(forget)


def _in_worker(act: Callable[[], None]) -> None:
    from django.db import Error as DatabaseError
    from django.db import connection

    try:
        act()
    except DatabaseError as error:
        logger.warning("The database is away (%s): the poll repairs what this leaves.", error)
    finally:
        # The worker forks new children: they must not inherit an open connection.
        connection.close()
