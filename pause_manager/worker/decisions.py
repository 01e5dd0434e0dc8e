"""What becomes of a message in a worker's hand: it starts, is kept, or goes back. Decided in the main process.

A message that nothing holds, that needs no room and comes from no entry starts without a question. Every other one is
handed to the database thread; until its fate is committed it is not acknowledged, and it counts as in hand.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from celery.worker import state as celery_state

from pause_manager import conf, nodes
from pause_manager.actor import SYSTEM
from pause_manager.database.thread import database_thread
from pause_manager.holds import milestones
from pause_manager.messaging.message import Delivery
from pause_manager.messaging.remainder import Remainder
from pause_manager.nodes.machines import identity
from pause_manager.observability import audit, metrics
from pause_manager.pausable import confirmations, every_task, is_pausable, parked_messages, uses_of
from pause_manager.resources.places import NotYet
from pause_manager.scopes import resource
from pause_manager.slots import gpus, shared_state
from pause_manager.worker.event_loop import event_loop
from pause_manager.worker.failure_log import failure_log
from pause_manager.worker.open_requests import State
from pause_manager.worker.pending_writes import PendingWrites, Write
from pause_manager.worker.request import PausableRequest
from pause_manager.worker.returns import AGAIN_SECONDS, Returns, come_again, is_left_out, send_back, uses
from pause_manager.worker.stop_marks import stop_marks

logger = logging.getLogger("pause_manager.worker.decisions")

ELSEWHERE_SECONDS = 1.0


class Decisions:
    """The decisions of one worker that are not made yet. ``worker`` is Celery's ``WorkController``."""

    def __init__(self) -> None:
        self.writes = PendingWrites(self._cannot)
        self.returns = Returns(self.writes, self.take)
        self._worker: Any = None
        self._resumed: frozenset[str] = frozenset()
        self._control_queue = ""

    def attach(self, worker: Any) -> None:
        self._worker = worker
        self.returns.attach(worker)
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

    def free_a_place(self) -> None:
        """The pool has a place for another; from the loop's next turn, since the other may be refused as well."""
        release = getattr(self._worker, "_quick_release", None)
        if release is not None:
            event_loop.call(release)

    def failed(self, request: PausableRequest, exception: BaseException, traceback: str) -> None:
        """The task of ``request`` has failed, maybe for good."""
        failure_log.add(request, exception, traceback)

    def ended(self, request: PausableRequest, exception: BaseException | None) -> None:
        """The task of ``request`` has ended, or Celery threw its message away."""
        if request.turn is not None and request.turn.row is not None:
            if request.requeued or not request.acknowledged:
                self.writes.add(None, partial(come_again, request.turn.id))
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
            self._later(seconds, partial(self.writes.add, request, partial(send_back, request)))
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
            if confirmations.is_revoked(request.entry):
                return request.end_as_revoked
            is_taken_up = confirmations.confirm_once(
                request.entry, delivery.tag, delivery.turn, is_redelivered=delivery.is_redelivered
            )
            if is_taken_up or confirmations.came_back_dead(request.entry, delivery.headers):
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
            self.writes.add(None, partial(come_again, turn.id))
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
            confirmations.mark_revoked([str(request.id)])
        return partial(_is_kept, request)

    def _return(self, request: PausableRequest) -> None:
        if request.state is State.TAKEN:
            self.returns.give_up(request)

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


def _is_clear(here: shared_state.SharedState, request: PausableRequest) -> bool:
    return here.is_permitted and here.control.covering(request.queue or "", uses(request)) is None


def _scopes(request: PausableRequest) -> list[str]:
    used = map(resource, uses(request))
    return ["fleet", f"queue:{request.queue}", f"node:{identity.known_name()}", *used]


def _is_kept(request: PausableRequest) -> None:
    """In the loop, after the commit: the message is in the pause queue, or somebody else's."""
    request.acknowledge()
    request.drop()


def _close(entry: tuple[int, int]) -> None:
    confirmations.discard(entry)


def _tell_of(request: PausableRequest, reason: str) -> None:
    delivery = request.delivery()
    audit.record("not_kept", scope=delivery.ref, actor=SYSTEM, reason=reason, details={"queue": delivery.short_queue})


decisions = Decisions()
"""Those of this process."""
PausableRequest.handler = decisions
