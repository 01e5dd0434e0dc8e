"""``PausableTask``: the drop-in that makes anybody's Celery task obey holds. Imports no models: apps may not be ready.

A worker's main process decides whether a task starts (see ``worker``). Here is what a task does in the pool: it looks
at the page once more before its first line, asks it whether to stop, and leaves at a boundary. No database is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Task, current_app, signals, states
from celery.app.task import Context
from celery.app.trace import TraceInfo, report_internal_error, trace_ok_t
from celery.exceptions import Ignore

from pause_manager import conf
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Gpu
from pause_manager.messaging.message import ADDRESS, uses_of
from pause_manager.messaging.remainder import Remainder
from pause_manager.observability import sentry
from pause_manager.pausable import exhaustion
from pause_manager.slots import gpus, recycling, shared_state

if TYPE_CHECKING:
    from pause_manager.pausable.running_tasks import Running

REQUEST = "pause_manager.worker.request:PausableRequest"
"""By name: its module needs models, and a worker's Celery alone loads it."""
REFUSED, LEFT = "slackwater:refused", "slackwater:left"
"""What a pool process answers for a task that it has not started because a hold came first, and for one that left."""

Tracer = Callable[..., Any]
YIELD = "yield"


class Parked(Ignore):
    """Raised by a task to leave: ``raise self.park(...)``. To Celery it is an ``Ignore``; the rest is kept after."""

    rest: Remainder | None = None


class PausableMixin:
    """What makes a task class obey holds; for a base class of your own: ``class Mine(PausableMixin, TheirTask)``.

    A task does not start while a hold covers it (fleet, its queue, its node, a resource): its message waits and is sent
    on. With ``needs`` it also waits for room, by the ``policy`` of that name. ``pausable = False`` switches it off.
    """

    abstract = True
    Request = REQUEST
    pausable: ClassVar[bool] = True
    needs: ClassVar[Needs | Mapping[str, Any] | None] = None
    uses: ClassVar[tuple[str, ...]] = ()
    """The resources outside that it uses, by name: it starts when none is held and each has a place for it."""
    policy: ClassVar[str] = ""
    """One of ``PAUSE_MANAGER["pipeline_policies"]``; the fleet's if it is none of them."""
    on_exhausted: ClassVar[str] = exhaustion.FAIL
    """``hold``: when it fails and no retry is left, it waits in the pause queue for a person: retry, skip or fail."""
    isolate_gpus: ClassVar[bool] = False
    """Before its first line, ``CUDA_VISIBLE_DEVICES`` of its process names the GPUs that it was given and no other."""

    _trace: Tracer | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        exhaustion.check(cls.__name__, cls.on_exhausted)

    @property
    def __trace__(self) -> Tracer | None:
        """What runs a delivery; Celery builds it and puts it here."""
        return self._trace

    @__trace__.setter
    def __trace__(self, tracer: Tracer | None) -> None:
        self._trace = guarded(self, tracer) if tracer is not None and self.pausable else tracer

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that it was given by its ``needs``: ``uuid``, ``index``, ``name``, ``memory_mib``."""
        return given_gpus()

    def check_should_stop(self) -> tuple[bool, str]:
        """Whether it should leave, and why: a quiesce covers it, or other processes need what it declared.

        For its own loops: from memory, in under a microsecond, and it never fails. Outside a worker it says no.
        """
        return check_should_stop()

    def park(self, *args: Any, **kwargs: Any) -> Parked:
        """``raise self.park(rest)`` leaves at a boundary: the task runs again, with these arguments, when it may.

        It keeps its id, its place in chain, group and chord, and its links. The arguments are those of a call; none at
        all means those that it has now. Raises ``RuntimeError`` outside a worker, and what the serialiser raises for
        arguments that it cannot write.
        """
        return park(self, *args, **kwargs)

    def try_later(self, seconds: float, *, resource: str | None = None) -> Parked:
        """``raise self.try_later(30)``: a resource has said "too much" (HTTP 429), and asks to be let alone so long.

        All who use it stop until then; one asks it again, and the others follow step by step. The task runs again from
        its beginning, with the arguments that it has, and counts no retry. ``resource`` may be left out where the task
        uses one. Raises ``ValueError`` for one that it does not use, and what :meth:`park` raises.
        """
        return try_later(self, seconds, resource)


class PausableTask(PausableMixin, Task):  # type: ignore[type-arg]
    """Celery's task with :class:`PausableMixin`: ``Celery(task_cls="pause_manager.pausable:PausableTask")``."""

    abstract = True
    Request = REQUEST


class _Run:
    """What a task that runs in this thread (or greenlet) needs to know."""

    __slots__ = (
        "arguments",
        "content_type",
        "failure",
        "gpus",
        "here",
        "is_entered",
        "is_told",
        "mark",
        "queue",
        "request",
        "turn",
        "uses",
    )

    def __init__(
        self,
        here: shared_state.SharedState,
        address: Mapping[str, Any],
        arguments: tuple[Any, Any],
        request: Mapping[str, Any],
        uses: tuple[str, ...] = (),
    ) -> None:
        self.here = here
        self.uses = uses
        self.arguments = arguments
        self.request = request
        self.queue: str = address["queue"]
        self.turn: str = address.get("turn") or ""
        self.mark: int | None = address.get("mark")
        self.content_type: str | None = address.get("content_type")
        self.gpus = tuple(Gpu(**gpu) for gpu in address.get("gpus", ()))
        self.is_told = self.mark is None
        self.failure: Mapping[str, Any] | None = address.get("failure")
        """What a person has decided that it fails with, instead of running."""
        self.is_entered = False

    def stop(self) -> tuple[str, str] | None:
        """Code and sentence of why it should leave."""
        if not self.is_told and self.mark is not None:
            self.here.mark(self.mark)
            self.is_told = True
        control = self.here.control
        if self.turn and (sentence := control.yields.get(self.turn)):
            return YIELD, sentence
        held = control.quiescing(self.queue, self.uses)
        return None if held is None else ("held", held.sentence)


_GO_ON = (False, "")
_current = threading.local()


def given_gpus() -> tuple[Gpu, ...]:
    """As :attr:`PausableMixin.gpus`, for the task that runs in this thread."""
    run: _Run | None = getattr(_current, "run", None)
    return () if run is None else run.gpus


def check_should_stop() -> tuple[bool, str]:
    """As :meth:`PausableMixin.check_should_stop`, for the task that runs in this thread."""
    run: _Run | None = getattr(_current, "run", None)
    if run is None:
        return _GO_ON
    stop = run.stop()
    return _GO_ON if stop is None else (True, stop[1])


def park(task: Any, *args: Any, **kwargs: Any) -> Parked:
    """As :meth:`PausableMixin.park`, for ``task``, which runs in this thread."""
    run: _Run | None = getattr(_current, "run", None)
    if run is None:
        raise RuntimeError(f"Cannot park {task.name}: it does not run in a worker.")
    parked = Parked(f"{task.name} is parked")
    # Serialised here: what cannot be is an error of the task, in its own frame.
    parked.rest = _rest(task, run, *((args, kwargs) if args or kwargs else run.arguments))
    sentry.tell_of_park()
    return parked


def try_later(task: Any, seconds: float, resource: str | None = None) -> Parked:
    """As :meth:`PausableMixin.try_later`, for ``task``, which runs in this thread."""
    uses = uses_of(task)
    name = uses[0] if resource is None and len(uses) == 1 else resource
    if name is None or name not in uses:
        listed = ", ".join(uses) or "none"
        raise ValueError(
            f"Cannot let a resource alone for {task.name}: expected one that it uses ({listed}), got: {name!r}."
        )
    parked = park(task)
    assert parked.rest is not None
    parked.rest = replace(parked.rest, too_much=(name, max(0.0, float(seconds))))
    return parked


def running() -> list[Running]:
    """The tasks running in the fleet, the oldest first; see ``running.running``."""
    from pause_manager.pausable.running_tasks import (
        running,  # needs models, which a Celery app loads before they are ready
    )

    return running()


def is_pausable(task: Any) -> bool:
    """Whether ``task`` is kept while held: by its class, or because every task is."""
    own = getattr(task, "pausable", None)
    return bool(own) if own is not None else every_task()


@lru_cache(maxsize=1)
def every_task() -> bool:
    """Whether tasks of any class obey in this project."""
    return conf.settings().every_task


def guarded(task: Any, tracer: Tracer) -> Tracer:
    """``tracer``, Celery's own, with a last look at the holds before it."""
    return partial(_trace, task, tracer)


def _trace(task: Any, tracer: Tracer, uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
    """What Celery calls in the pool instead of ``tracer``."""
    # Not the task's to see: what it sends itself would carry it along.
    address = request.pop(ADDRESS, None) or {} if request else {}
    queue: str | None = address.get("queue")
    here = shared_state.current() if queue is not None else None
    if here is None or queue is None:  # a broadcast, a local call, or no worker of ours
        return tracer(uuid, args, kwargs, request)
    if queue != _control_queue() and not (here.is_permitted and here.control.covering(queue, uses_of(task)) is None):
        return _answered((REFUSED,))
    run = _Run(here, address, (args, kwargs), request, uses_of(task))
    is_isolated = bool(run.gpus) and getattr(task, "isolate_gpus", False)
    if is_isolated and gpus.has_started_cuda():
        recycling.request_replacement("CUDA was started in it, and a task came whose GPUs are isolated")
        return _answered((REFUSED,))
    if (mark := address.get("mark")) is not None and not here.begin(mark):
        return _answered((REFUSED,))  # Its message has gone back meanwhile.
    outer = getattr(_current, "run", None)
    _current.run = run
    try:
        with gpus.isolated(run.gpus) if is_isolated else nullcontext():
            asking = exhaustion.asks(task) or run.failure is not None
            if asking:
                tracer = exhaustion.tracer_of(task, tracer, (request or {}).get("hostname"), _asked)
            traced = tracer(uuid, args, kwargs, request)
        left: Any = traced.info.retval if traced.info is not None else None
        if isinstance(left, Parked) and left.rest is not None:
            return _answered((LEFT, left.rest))
        return traced
    except gpus.CannotIsolate as error:
        return _failed(task, uuid, request, error)
    finally:
        _current.run = outer


def _asked(task: Any, run_it: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What a task runs; if it fails and no retry is left, it leaves, and a person is asked."""
    run: _Run | None = getattr(_current, "run", None)
    if run is None or run.is_entered or run.request.get("task", task.name) != task.name:  # called by a task
        return run_it(*args, **kwargs)
    run.is_entered = True
    if run.failure is not None:
        raise exhaustion.error_of(task, run.failure)
    try:
        return run_it(*args, **kwargs)
    except Exception as error:
        if exhaustion.is_of_celery(error):
            raise
        parked = park(task)
        assert parked.rest is not None
        failure = exhaustion.failure_of(task, error, int(run.request.get("retries") or 0))
        parked.rest = replace(parked.rest, failure=failure)
        raise parked from error


def _failed(task: Any, uuid: str, request: Any, error: Exception) -> Any:
    """What a tracer answers for a task that has failed before its first line; its result says so."""
    task.backend.mark_as_failure(uuid, error, request=Context(request or {}), store_result=not task.ignore_result)
    return trace_ok_t(report_internal_error(task, error), TraceInfo(states.FAILURE, error), 0.0, None)


def _rest(task: Any, run: _Run, args: Any, kwargs: Any) -> Remainder:
    stop = run.stop()
    return Remainder.of(
        task,
        run.request,
        args,
        kwargs,
        content_type=run.content_type,
        reason=stop[1] if stop is not None else "the task left at a boundary of its own",
        # What gives way to other processes waits for room, not for a hold to go.
        was_held=stop is not None and stop[0] != YIELD,
    )


def _answered(answer: tuple[Any, ...]) -> Any:
    """What a tracer answers; the main process takes it for no result, see ``worker.request``."""
    return trace_ok_t(None, None, 0.0, answer)  # type: ignore[arg-type]


_queue: str | None = None


def _control_queue() -> str:
    global _queue
    if _queue is None:
        _queue = conf.settings().control_queue
    return _queue


@signals.worker_process_init.connect
def _guard_every_task(**_: Any) -> None:
    """In a pool process, where Celery has just built the tracers: tasks of any class, if every task is pausable."""
    guard_tasks_of_any_class(current_app)


def guard_tasks_of_any_class(app: Any) -> None:
    """Have the tracers of tasks that are not of our class look at the holds, if ``every_task`` is set."""
    if not every_task():
        return
    for task in app.tasks.values():
        tracer = getattr(task, "__trace__", None)
        is_ours = isinstance(task, PausableMixin) or getattr(task, "pausable", True) is False
        if tracer is not None and not is_ours and getattr(tracer, "func", None) is not _trace:
            task.__trace__ = guarded(task, tracer)
