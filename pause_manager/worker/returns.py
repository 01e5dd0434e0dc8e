"""What a worker gives out of its hand: what waits is taken back from Celery, and what is not ours goes to the broker.

In the worker's loop, but for :meth:`Returns.let_go`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any
from uuid import UUID

from celery.worker import state as celery_state

from pause_manager.messaging import broker
from pause_manager.pausable import confirmations, is_pausable, uses_of
from pause_manager.slots import shared_state
from pause_manager.worker.open_requests import State, open_requests
from pause_manager.worker.pending_writes import PendingWrites
from pause_manager.worker.request import PausableRequest

logger = logging.getLogger("pause_manager.worker.returns")

AGAIN_SECONDS = 0.05


class Returns:
    """Of one worker. ``take`` has a request decided about; ``worker`` is Celery's ``WorkController``."""

    def __init__(self, writes: PendingWrites, take: Callable[[PausableRequest], None]) -> None:
        self._writes = writes
        self._take = take
        self._worker: Any = None

    def attach(self, worker: Any) -> None:
        self._worker = worker

    def take_back(self, queues: Collection[str] | None, resources: Collection[str] = ()) -> None:
        """In the loop: take what Celery has of ``queues`` (``None``: all), or what uses any of ``resources``, and has
        not given to the pool.

        So that it waits in the pause queue, or with the broker, and not behind a task that runs for hours.
        """
        for request in open_requests:
            is_meant = queues is None or request.queue in queues or not set(resources).isdisjoint(uses(request))
            if not is_meant or is_left_out(request.task):
                continue
            # A pool of threads has a queue of its own.
            is_queued = request.state is State.SUBMITTED and request.result is not None and request.result.f.cancel()
            if request.state is not State.RECEIVED and not is_queued:
                continue
            try:
                self._take_back(request)
            except Exception:
                logger.exception("%s cannot be taken back: it waits in the worker.", request)
        self._pass_over_taken()

    def _take_back(self, request: PausableRequest) -> None:
        _unschedule(self._worker, request)
        if is_pausable(request.task) or request.entry is not None:
            self._take(request)
        else:
            request.take()
            request.goes_back = True

    def _pass_over_taken(self) -> None:
        """Of those that wait for a place in the pool, leave what Celery has still got."""
        waiting = getattr(getattr(self._worker, "semaphore", None), "_waiting", None)
        if waiting:
            left = [one for one in waiting if not (one[1] and _is_ours(one[1][0]))]
            waiting.clear()
            waiting.extend(left)

    def give_back(self, *, is_blind: bool) -> None:
        """In the loop, when nothing held is consumed any more: what is not ours to keep goes back to the broker.

        ``is_blind``: nothing can be decided, so everything goes that nobody has begun to decide about.
        """
        if is_blind:
            for request in open_requests.received(None):
                if request.acknowledged:
                    self._take(request)
                    continue
                _unschedule(self._worker, request)
                request.goes_back = True
            for request in self._writes.withdraw(lambda one: one.rest is None and not one.acknowledged):
                request.goes_back = True
        for request in open_requests:
            if request.goes_back and request.state in (State.RECEIVED, State.TAKEN):
                self.give_up(request)

    def lost_connection(self) -> None:
        """In the loop: the broker delivers again what was not acknowledged, so what has not started is forgotten.

        An entry that was answered for it may be answered again. A rest is kept all the same.
        """
        for request in open_requests:
            is_at_work = request.state is State.SUBMITTED and not self._is_discarded(request)
            if request.state is State.ENDED or is_at_work or request.rest is not None:
                continue
            if request.acknowledged:
                # Nobody but us has it.
                if request.state is not State.TAKEN:
                    self._take(request)
                continue
            self._writes.forget(request)
            self.give_up(request, is_known=True)

    def shut_down(self) -> None:
        """The worker ends, and the broker delivers again what was not acknowledged: others may answer for it."""
        for request in open_requests:
            if request.state in (State.RECEIVED, State.TAKEN) and request.rest is None and not request.acknowledged:
                self._writes.forget(request)
                self.give_up(request, is_known=True)

    def pool_has_ended(self, *, has_finished: bool) -> None:
        """What the pool was given and has not begun others may answer for: the broker delivers it again.

        ``has_finished``: it has run to its end what it had begun, even if nobody heard of that.
        """
        for request in open_requests:
            if request.state is not State.SUBMITTED or request.rest is not None:
                continue
            if not _has_begun(request):
                self.give_up(request, is_known=not request.acknowledged)
            elif has_finished and request.turn is not None and request.turn.row is not None:
                self._writes.leave(request.turn.id)

    def give_up(self, request: PausableRequest, *, is_known: bool = False) -> None:
        """The broker has the message again (``is_known``: it knows so by itself); what was written for it is void."""
        request.take()
        if not is_known:
            request.reject(requeue=True)
        if (turn := request.turn_that_may_be_written) is not None:
            self._writes.add(None, partial(come_again, turn))
        request.drop()

    def _is_discarded(self, request: PausableRequest) -> bool:
        """Whether the pool forgot it: it forgets what no process had accepted when the broker was lost."""
        jobs = getattr(getattr(self._worker.pool, "_pool", None), "_cache", None)
        if jobs is None or request.time_start is not None:
            return False
        result: Any = getattr(request, "_apply_result", None)
        job = result() if result is not None else None
        return job is None or getattr(job, "_job", None) not in jobs

    def let_go(self, seconds: float) -> None:
        """The worker ends: what is acknowledged and not kept yet goes back to the broker if the database is away.

        Everything else the broker delivers again by itself.
        """
        deadline = time.monotonic() + seconds
        while (self._acknowledged() or not self._writes.is_empty) and time.monotonic() < deadline:
            self._writes.ask()
            time.sleep(AGAIN_SECONDS)
        for request in self._acknowledged():
            self._writes.forget(request)
            try:
                send_back(request)
            except Exception as error:
                logger.critical("Lost is %s[%s], which could not be kept: %s", request.name, request.id, error)
            else:
                if request.turn is not None and request.turn.row is not None:
                    self._writes.leave(request.turn.id, now=False)

    def _acknowledged(self) -> list[PausableRequest]:
        """Those of which nobody but us has the message any more, and that have not started or have left a rest."""
        in_work = {id(request) for request in self._writes.requests()}
        return [
            one
            for one in open_requests
            if (one.acknowledged and one.state is State.RECEIVED)
            or (id(one) in in_work and one.state is State.TAKEN and (one.acknowledged or one.rest is not None))
        ]


def uses(request: PausableRequest) -> tuple[str, ...]:
    return uses_of(request.task) if is_pausable(request.task) else ()


def is_left_out(task: Any) -> bool:
    """Whether ``task`` starts whatever is held, when a worker has its message: it says so, or answers for itself."""
    return getattr(task, "pausable", None) is False or getattr(task, "answers_for_itself", False)


def send_back(request: PausableRequest) -> Callable[[], None]:
    delivery = request.delivery()
    message = delivery if request.rest is None else delivery.left_with(request.rest)
    (fate,) = broker.publish([message.copy()])
    if fate.what != "taken":
        raise RuntimeError(f"Cannot give {delivery.ref} back to the broker: {fate.why}.")
    return request.drop


def come_again(turn: UUID) -> None:
    confirmations.redelivered([turn])


def _has_begun(request: PausableRequest) -> bool:
    """Whether a process has begun with it; if not, none does any more, so far as the page can tell it."""
    mark, here = request.address.get("mark"), shared_state.current()
    if mark is None or here is None:
        return request.time_start is not None
    return not here.void(mark)


def _is_ours(request: Any) -> bool:
    return getattr(request, "state", None) in (State.TAKEN, State.ENDED)


def _unschedule(worker: Any, request: PausableRequest) -> None:
    """Have Celery's timer forget a request that waits for its time."""
    # Celery before 5.7 cannot tell: there the request is passed over when its time has come.
    scheduled: Any = getattr(celery_state, "scheduled_requests", ())
    if request in scheduled:
        worker.consumer.timer.cancel(request._eta_timer_entry)  # type: ignore[attr-defined]
        worker.consumer.qos.decrement_eventually()
        scheduled.discard(request)
