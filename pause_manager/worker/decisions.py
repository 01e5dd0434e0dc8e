"""What becomes of a message in a worker's hand: it starts, is kept, is given back. Decided in the main process.

A message that nothing holds, that needs no room and comes from no entry starts without a question. Every other one is
handed to the database thread; until its fate is committed it is not acknowledged, and it counts as in hand.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any
from uuid import UUID

from celery.worker import state as celery_state

from pause_manager import conf, nodes
from pause_manager.actor import SYSTEM
from pause_manager.database.thread import database_thread
from pause_manager.holds import milestones
from pause_manager.messaging import broker
from pause_manager.messaging.message import Delivery, Remainder
from pause_manager.nodes.machines import identity
from pause_manager.observability import audit, metrics
from pause_manager.pausable import every_task, is_pausable, parked_messages, uses_of
from pause_manager.resources.places import NotYet
from pause_manager.scopes import resource
from pause_manager.slots import gpus, shared_state
from pause_manager.worker.event_loop import event_loop
from pause_manager.worker.failure_log import failure_log
from pause_manager.worker.open_requests import State, open_requests
from pause_manager.worker.pending_writes import PendingWrites, Write
from pause_manager.worker.request import PausableRequest
from pause_manager.worker.stop_marks import stop_marks

logger = logging.getLogger("pause_manager.worker.decisions")

AGAIN_SECONDS = 0.05
ELSEWHERE_SECONDS = 1.0


class Decisions:
    """The decisions of one worker that are not made yet. ``worker`` is Celery's ``WorkController``."""

    def __init__(self) -> None:
        self.writes = PendingWrites(self._cannot)
        self._worker: Any = None
        self._resumed: frozenset[str] = frozenset()
        self._control_queue = ""

    def attach(self, worker: Any) -> None:
        self._worker = worker
        self._control_queue = conf.settings().control_queue
        every_task.cache_clear()

    def lets_start(self, request: PausableRequest) -> bool:
        """Whether the pool may have ``request`` now; if not, it is taken, and something will become of it.

        In the worker's loop, for each task: reads memory only.
        """
        queue = request.queue
        if queue == self._control_queue:
            return True
        task = request.task
        pausable = is_pausable(task)
        if not pausable and request.entry is None:
            return self._ordinary_may_start(request)
        if request.turn is None and (
            request.entry is not None
            or (pausable and (getattr(task, "needs", None) is not None or uses_of(task)))
            or request.delivery_info["redelivered"]
        ):
            self.take(request)
            return False
        here = shared_state.current()
        if here is None or _is_clear(here, request):
            if self._resumed:
                self._went_on(request)
            return True
        self.take(request)
        return False

    def _ordinary_may_start(self, request: PausableRequest) -> bool:
        """A task that is not pausable is not kept, but it need not start under a hold: it goes back to the broker."""
        here = shared_state.current()
        if here is None or is_left_out(request.task):
            return True
        if _is_clear(here, request):
            return True
        request.take()
        request.goes_back = True
        return False

    def take(self, request: PausableRequest) -> None:
        """In the loop: decide about ``request``. It starts later, is kept, or ends if it is revoked."""
        if self._is_gone(request, request.turn) or request.is_thrown_away():
            return
        request.take()
        self.writes.add(request, partial(self._settle, request))

    def take_back(self, queues: Collection[str] | None, resources: Collection[str] = ()) -> None:
        """In the loop: take what Celery has of ``queues`` (``None``: all), or what uses any of ``resources``, and has
        not given to the pool.

        So that it waits in the pause queue, or with the broker, and not behind a task that runs for hours.
        """
        for request in open_requests:
            is_meant = queues is None or request.queue in queues or not set(resources).isdisjoint(_uses(request))
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
            self.take(request)
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

    def free_a_place(self) -> None:
        """The pool has a place for another; from the loop's next turn, since the other may be refused as well."""
        release = getattr(self._worker, "_quick_release", None)
        if release is not None:
            event_loop.call(release)

    def give_back(self, *, is_blind: bool) -> None:
        """In the loop, when nothing held is consumed any more: what is not ours to keep goes back to the broker.

        ``is_blind``: nothing can be decided, so everything goes that nobody has begun to decide about.
        """
        if is_blind:
            for request in open_requests.received(None):
                if request.acknowledged:
                    self.take(request)
                    continue
                _unschedule(self._worker, request)
                request.goes_back = True
            for request in self.writes.withdraw(lambda one: one.rest is None and not one.acknowledged):
                request.goes_back = True
        for request in open_requests:
            if request.goes_back and request.state in (State.RECEIVED, State.TAKEN):
                self._give_up(request)

    def failed(self, request: PausableRequest, exception: BaseException, traceback: str) -> None:
        """The task of ``request`` has failed, maybe for good."""
        failure_log.add(request, exception, traceback)

    def ended(self, request: PausableRequest, exception: BaseException | None) -> None:
        """The task of ``request`` has ended, or Celery threw its message away."""
        if request.turn is not None and request.turn.row is not None:
            if request.requeued or not request.acknowledged:
                self.writes.add(None, partial(_come_again, request.turn.id))
            else:
                self.writes.leave(request.turn.id)
        elif request.turn is None and request.entry is not None and request.acknowledged and not request.requeued:
            self.writes.add(None, partial(_close, request.entry))

    def keep_rest(self, request: PausableRequest, rest: Remainder) -> None:
        """A task has left at a boundary: its rest waits."""
        request.rest = rest
        self.writes.add(request, partial(self._keep_rest, request, request.delivery(), rest))

    def went_on(self, scopes: Iterable[str]) -> None:
        """Holds on ``scopes`` were released: the first task that starts under them is told of."""
        self._resumed |= frozenset(scopes)

    def do(self, write: Write) -> None:
        """Have ``write`` made in its turn; again while the database is away."""
        self.writes.add(None, write)

    def retry(self) -> None:
        """Continue with what is not decided; called with each tick."""
        if not self.writes.is_empty:
            self.writes.ask()

    @property
    def is_empty(self) -> bool:
        return self.writes.is_empty

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
                    self.take(request)
                continue
            self.writes.forget(request)
            self._give_up(request, is_known=True)

    def shut_down(self) -> None:
        """The worker ends, and the broker delivers again what was not acknowledged: others may answer for it."""
        for request in open_requests:
            if request.state in (State.RECEIVED, State.TAKEN) and request.rest is None and not request.acknowledged:
                self.writes.forget(request)
                self._give_up(request, is_known=True)

    def pool_has_ended(self, *, has_finished: bool) -> None:
        """What the pool was given and has not begun others may answer for: the broker delivers it again.

        ``has_finished``: it has run to its end what it had begun, even if nobody heard of that.
        """
        for request in open_requests:
            if request.state is not State.SUBMITTED or request.rest is not None:
                continue
            if not _has_begun(request):
                self._give_up(request, is_known=not request.acknowledged)
            elif has_finished and request.turn is not None and request.turn.row is not None:
                self.writes.leave(request.turn.id)

    def _give_up(self, request: PausableRequest, *, is_known: bool = False) -> None:
        """The broker has the message again (``is_known``: it knows so by itself); what was written for it is void."""
        request.take()
        if not is_known:
            request.reject(requeue=True)
        if (turn := request.turn_that_may_be_written) is not None:
            self.writes.add(None, partial(_come_again, turn))
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
        while (self._acknowledged() or not self.is_empty) and time.monotonic() < deadline:
            self.writes.ask()
            time.sleep(AGAIN_SECONDS)
        for request in self._acknowledged():
            self.writes.forget(request)
            try:
                _send_back(request)
            except Exception as error:
                logger.critical("Lost is %s[%s], which could not be kept: %s", request.name, request.id, error)
            else:
                if request.turn is not None and request.turn.row is not None:
                    self.writes.leave(request.turn.id, now=False)

    def _acknowledged(self) -> list[PausableRequest]:
        """Those of which nobody but us has the message any more, and that have not started or have left a rest."""
        in_work = {id(request) for request in self.writes.requests()}
        return [
            one
            for one in open_requests
            if (one.acknowledged and one.state is State.RECEIVED)
            or (id(one) in in_work and one.state is State.TAKEN and (one.acknowledged or one.rest is not None))
        ]

    def _cannot(self, request: PausableRequest | None, write: Write, error: Exception) -> None:
        """Asking again would change nothing: the message goes back to the broker after a while, and people are told."""
        logger.error("Cannot decide about %s: %s", request or write, error, exc_info=error)
        if request is None:
            return
        reason = f"{type(error).__name__}: {error}"[:500]
        metrics.guarded(_tell_of)(request, reason)
        seconds = min(60.0, 2.0 ** min(request.failures, 6))
        if request.acknowledged:
            # Nobody but us has it.
            self._later(seconds, partial(self.writes.add, request, partial(_send_back, request)))
        else:
            self._later(seconds, partial(self._return, request))
        request.failures += 1

    def _settle(self, request: PausableRequest) -> Callable[[], None]:
        if request.id in celery_state.revoked:
            return request.end_as_revoked
        delivery = request.delivery()
        if request.turn is not None:
            parked_messages.park_again(delivery, request.turn)
            request.turn = None
            return partial(_is_kept, request)
        if not is_pausable(request.task):
            assert request.entry is not None
            if parked_messages.is_revoked(request.entry):
                return request.end_as_revoked
            is_taken_up = parked_messages.confirm_once(
                request.entry, delivery.tag, delivery.turn, is_redelivered=delivery.is_redelivered
            )
            if is_taken_up or parked_messages.came_back_dead(request.entry, delivery.headers):
                return partial(self._submit, request, parked_messages.Permit(delivery.turn))
            logger.info("A message of entry %d.%d was delivered again: it has been taken up.", *request.entry)
            return partial(_is_kept, request)
        try:
            turn = parked_messages.admit(delivery)
        except parked_messages.RunningElsewhere:
            if not request.detours:
                logger.info("%s was delivered again: it is running elsewhere.", delivery.ref)
            request.detours += 1
            return partial(self._later, ELSEWHERE_SECONDS, partial(self.take, request))
        except NotYet as later:
            return partial(self._later, later.seconds, partial(self.take, request))
        if turn is None:
            return partial(_is_kept, request)
        if turn.gpus:
            sample = nodes.latest(identity.known_name())
            given = gpus.assigned(turn.gpus, sample.view if sample is not None else None)
            request.address["gpus"] = [gpu.as_dict() for gpu in given]
        if turn.failure is not None:
            request.address["failure"] = dict(turn.failure)
        return request.end_as_revoked if turn.is_revoked else partial(self._submit, request, turn)

    def _is_gone(self, request: PausableRequest, turn: parked_messages.Permit | None) -> bool:
        """Whether the broker was lost meanwhile: it delivers the message again, and that one may be answered."""
        if request.state is not State.ENDED:
            return False
        if turn is not None and turn.row is not None:
            self.writes.add(None, partial(_come_again, turn.id))
        return True

    def _submit(self, request: PausableRequest, turn: parked_messages.Permit) -> None:
        """In the loop. If a hold has come meanwhile, or the page is older than the database, it is asked again."""
        if self._is_gone(request, turn):
            return
        here = shared_state.current()
        is_asked = here is not None and is_pausable(request.task)
        if is_asked and here is not None and not _is_clear(here, request):
            self.writes.tell_supervisor()
            if turn.row is not None:
                request.turn = turn
            self._later(min(1.0, AGAIN_SECONDS * 2**request.detours), partial(self.take, request))
            request.detours += 1
            return
        request.turn = turn
        if turn.row is not None:
            request.address.update(turn=str(turn.id), mark=stop_marks.give(turn))
        request.state = State.RECEIVED
        self._worker.process_task(request)

    def _keep_rest(self, request: PausableRequest, delivery: Delivery, rest: Remainder) -> Callable[[], None]:
        parked_messages.park_remainder(delivery, request.turn, rest)
        if request.id in celery_state.revoked:  # while it ran: this worker would not start its rest
            parked_messages.mark_revoked([str(request.id)])
        return partial(_is_kept, request)

    def _return(self, request: PausableRequest) -> None:
        if request.state is State.TAKEN:
            self._give_up(request)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, partial(event_loop.call, call))
        timer.daemon = True
        timer.start()

    def _went_on(self, request: PausableRequest) -> None:
        covering = self._resumed & set(_scopes(request))
        if covering:
            self._resumed -= covering
            note = partial(milestones.note_work_resumed, sorted(covering))
            database_thread.submit(f"first work after {covering}", note)


def _has_begun(request: PausableRequest) -> bool:
    """Whether a process has begun with it; if not, none does any more, so far as the page can tell it."""
    mark, here = request.address.get("mark"), shared_state.current()
    if mark is None or here is None:
        return request.time_start is not None
    return not here.void(mark)


def _is_clear(here: shared_state.SharedState, request: PausableRequest) -> bool:
    return here.is_permitted and here.control.covering(request.queue or "", _uses(request)) is None


def _scopes(request: PausableRequest) -> list[str]:
    used = map(resource, _uses(request))
    return ["fleet", f"queue:{request.queue}", f"node:{identity.known_name()}", *used]


def _uses(request: PausableRequest) -> tuple[str, ...]:
    return uses_of(request.task) if is_pausable(request.task) else ()


def _is_ours(request: Any) -> bool:
    return getattr(request, "state", None) in (State.TAKEN, State.ENDED)


def is_left_out(task: Any) -> bool:
    """Whether ``task`` starts whatever is held, when a worker has its message: it says so, or answers for itself."""
    return getattr(task, "pausable", None) is False or getattr(task, "answers_for_itself", False)


def _is_kept(request: PausableRequest) -> None:
    """In the loop, after the commit: the message is in the pause queue, or somebody else's."""
    request.acknowledge()
    request.drop()


def _send_back(request: PausableRequest) -> Callable[[], None]:
    delivery = request.delivery()
    message = delivery if request.rest is None else delivery.left_with(request.rest)
    (fate,) = broker.publish([message.copy()])
    if fate.what != "taken":
        raise RuntimeError(f"Cannot give {delivery.ref} back to the broker: {fate.why}.")
    return request.drop


def _close(entry: tuple[int, int]) -> None:
    parked_messages.discard(entry)


def _come_again(turn: UUID) -> None:
    parked_messages.redelivered([turn])


def _tell_of(request: PausableRequest, reason: str) -> None:
    delivery = request.delivery()
    audit.record("not_kept", scope=delivery.ref, actor=SYSTEM, reason=reason, details={"queue": delivery.short_queue})


def _unschedule(worker: Any, request: PausableRequest) -> None:
    """Have Celery's timer forget a request that waits for its time."""
    # Celery before 5.7 cannot tell: there the request is passed over when its time has come.
    scheduled: Any = getattr(celery_state, "scheduled_requests", ())
    if request in scheduled:
        worker.consumer.timer.cancel(request._eta_timer_entry)  # type: ignore[attr-defined]
        worker.consumer.qos.decrement_eventually()
        scheduled.discard(request)


decisions = Decisions()
"""Those of this process."""
PausableRequest.handler = decisions
