"""Celery's request of a message, which asks the supervisor before it goes to the pool, and tells when it has ended.

What is decided about a message is decided here, in the worker's main process, before the pool has it: no clock of the
task runs meanwhile, nothing is acknowledged, and a pool process needs no connection to ask anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol
from uuid import UUID, uuid4

from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.worker import state as celery_state

from pause_manager.messaging.headers import ENTRY, groups_of, parse_entry, queue_of
from pause_manager.messaging.message import ADDRESS, Delivery
from pause_manager.messaging.remainder import Remainder
from pause_manager.pausable import LEFT, REFUSED, is_pausable
from pause_manager.pausable.parked_messages import Permit
from pause_manager.worker.open_requests import State, open_requests
from pause_manager.worker.reliable_ack import ReliableAckRequest


class Handler(Protocol):
    """Decides about the requests of a worker; see :class:`pause_manager.worker.decisions.Decisions`."""

    def lets_start(self, request: PausableRequest) -> bool: ...

    def free_a_place(self) -> None: ...

    def take(self, request: PausableRequest) -> None: ...

    def keep_rest(self, request: PausableRequest, rest: Remainder) -> None: ...

    def failed(self, request: PausableRequest, exception: BaseException, traceback: str) -> None: ...

    def ended(self, request: PausableRequest, exception: BaseException | None) -> None: ...


class PausableRequest(ReliableAckRequest):
    """A request of a task of any class; what is decided before it starts depends on the task."""

    handler: ClassVar[Handler]
    """Set by ``decisions``, which a worker loads before it takes its first message."""
    state = State.RECEIVED
    turn: Permit | None = None
    """What it may run by, once that is decided."""
    requeued = False
    """Whether the broker was told to deliver it again."""
    rest: Remainder | None = None
    """Of a task that has left at a boundary, until it is kept."""
    goes_back = False
    """Whether the broker is to have it back as soon as its queue is not consumed any more."""
    failures = 0
    """How often it could not be decided about."""
    result: Any = None
    """What the pool of threads will answer."""
    detours = 0
    """How often the page was not as the database."""
    _turn_id: UUID | None = None

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        super().__init__(message, *args, **options)
        told = self.request_dict
        # A retry that Celery makes of this request must not pass for another message of the entry.
        self.entry = parse_entry(told.pop(ENTRY, None))
        self.queue = queue_of_message(self.app, message)
        self.address: dict[str, Any] = {"queue": self.queue}
        """What the pool is told of it besides the message."""
        if not options.get("decoded"):
            self.address["content_type"] = message.content_type
        if self.queue is not None:
            open_requests.add(self)

    def __init_subclass__(cls, **options: Any) -> None:
        """Celery makes a class of each task's with faster methods of its own: ours stand before them."""
        super().__init_subclass__(**options)
        if "execute_using_pool" in cls.__dict__:
            cls.execute_using_pool = _asking(cls.execute_using_pool)  # type: ignore[method-assign]
        if "on_success" in cls.__dict__:
            cls.on_success = _telling(cls.on_success)  # type: ignore[method-assign]

    @property
    def name_of_turn(self) -> UUID:
        """The id of this delivery: whatever is written for it names it, so that writing it again changes nothing."""
        if self._turn_id is None:
            self._turn_id = uuid4()
        return self._turn_id

    @property
    def call(self) -> tuple[Any, Any, Any]:
        """Its arguments, those by name, and what comes after it: the rest of its chain, its links."""
        args, kwargs, embedded = self._payload  # type: ignore[attr-defined]
        return args, kwargs, embedded or {}

    def delivery(self) -> Delivery:
        """What it delivers, as it came."""
        return Delivery.of_message(
            self.message,
            self.task,
            task_id=str(self.id),
            queue=self.queue or "",
            worker=str(self.hostname),
            turn=self.name_of_turn,
            entry=self.entry,
            groups=groups_of(self.message.headers or {}, self.call[2]),
        )

    def acknowledge(self) -> None:
        super().acknowledge()
        if self.state is State.RECEIVED:  # thrown away by Celery's own rules: revoked, expired
            self._end()

    def reject(self, requeue: bool = False) -> None:
        self.requeued = self.requeued or (requeue and not self.acknowledged)
        super().reject(requeue=requeue)
        if self.state is State.RECEIVED:
            self._end()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        # A retry of it that Celery makes here is another message.
        self.request_dict.pop(ADDRESS, None)
        try:
            answer = super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
            self.handler.failed(self, exc_info.exception, str(exc_info.traceback or ""))
            return answer
        finally:
            self._end(exc_info.exception)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        super().on_timeout(soft, timeout)
        if not soft:
            error = TimeLimitExceeded(timeout)
            self.handler.failed(self, error, "")
            self._end(error)

    def is_thrown_away(self) -> bool:
        """Whether it is revoked or expired by Celery's own rules; if so it has ended."""
        if not self.revoked():
            return False
        self._end()
        return True

    def end_as_revoked(self) -> None:
        """Have Celery end it as it ends what it knows to be revoked."""
        with known_as_revoked(str(self.id)):
            self.is_thrown_away()

    def take(self) -> None:
        """It is ours from now on: Celery will not give it to the pool, and forgets it."""
        self.state = State.TAKEN

    @property
    def turn_that_may_be_written(self) -> UUID | None:
        """The turn, if anything may have been written under it, whether or not the answer has arrived."""
        return self._turn_id

    def drop(self) -> None:
        """Nothing more will come of it here."""
        self.state = State.ENDED
        open_requests.remove(self)
        celery_state.task_ready(self)

    def _end(self, exception: BaseException | None = None) -> None:
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        open_requests.remove(self)
        if self.turn is not None or self.entry is not None:
            self.handler.ended(self, exception)


def combined(own: type[Any]) -> type[Any]:
    """``own``, a task's class of request, with ours before it. Raises ``TypeError`` where they cannot be combined."""
    if issubclass(own, PausableRequest):
        return own
    if issubclass(PausableRequest, own):
        return PausableRequest
    return type(f"Pausable{own.__name__}", (PausableRequest, own), {"__module__": own.__module__})


def _asking(submit: Callable[..., Any]) -> Callable[..., Any]:
    def execute_using_pool(self: PausableRequest, pool: Any, **options: Any) -> Any:
        if self.queue is not None and not _may_start(self):
            return None
        self.state = State.SUBMITTED
        if is_pausable(self.task):
            self.request_dict[ADDRESS] = self.address
        try:
            result = submit(self, pool, **options)
            if hasattr(result, "f"):
                # Celery keeps a weak reference, and a pool of threads none: it can be cancelled while we have it.
                self.result = result
            return result
        except TaskRevokedError:
            self._end()
            raise

    return execute_using_pool


def _may_start(request: PausableRequest) -> bool:
    is_let = _is_let_start(request)
    if not is_let:
        # Celery has taken a place in the pool for it.
        request.handler.free_a_place()
    return is_let


def _is_let_start(request: PausableRequest) -> bool:
    if request.state is not State.RECEIVED:
        # Celery's timer, bucket or semaphore still had it.
        if request.state is not State.SUBMITTED:
            celery_state.task_ready(request)
        return False
    return request.handler.lets_start(request)


def _telling(on_success: Callable[..., Any]) -> Callable[..., Any]:
    def told(self: PausableRequest, failed__retval__runtime: tuple[Any, Any, Any], **options: Any) -> Any:
        answer = failed__retval__runtime[1]
        if type(answer) is tuple and answer and answer[0] in (REFUSED, LEFT):
            return _came_back(self, answer)
        try:
            return on_success(self, failed__retval__runtime, **options)
        finally:
            if not failed__retval__runtime[0]:
                self._end()

    return told


def _came_back(request: PausableRequest, answer: tuple[Any, ...]) -> None:
    celery_state.task_ready(request)
    request.take()
    if answer[0] == REFUSED:
        # It has not started: the next time is the first.
        request.time_start = request.result = None
        request.handler.take(request)
    else:
        request.handler.keep_rest(request, answer[1])


@contextmanager
def known_as_revoked(task_id: str) -> Iterator[None]:
    """Within, Celery takes the task for revoked, as if this worker had heard of it."""
    is_new = task_id not in celery_state.revoked
    celery_state.revoked.add(task_id)
    try:
        yield
    finally:
        if is_new:
            # Another message of the same id is another matter.
            celery_state.revoked.discard(task_id)


def queue_of_message(app: Any, message: Any) -> str | None:
    """The queue that ``message`` was taken from; ``None`` if it was broadcast.

    What the transport says (see ``delivery_step``), else the consumer's tag, else a guess by exchange and routing key.
    """
    address = message.delivery_info or {}
    queue = address.get("queue")
    if queue is None:
        queue = _tags.get(address.get("consumer_tag"))
    if queue is None:
        return queue_of(app, address.get("exchange"), address.get("routing_key"))
    known = _broadcast.get(queue)
    if known is None:
        declared = app.amqp.queues.get(queue)
        exchange = declared.exchange if declared is not None else None
        known = _broadcast[queue] = exchange is not None and exchange.type == "fanout"
    return None if known else queue


_tags: dict[Any, str] = {}
_broadcast: dict[str, bool] = {}
"""By queue whether its exchange sends every message to all."""


def is_known(tag: Any) -> bool:
    """Whether the queue of this consumer's tag is known."""
    return tag in _tags


def know_tags(tags: dict[str, str]) -> None:
    """Learn the consumer's tags, by queue."""
    _tags.update({tag: queue for queue, tag in tags.items()})
