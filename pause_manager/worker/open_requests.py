"""What a worker has in hand: every message that it has received and that has neither ended nor been given back."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pause_manager import conf
from pause_manager.messaging.readable import clean

if TYPE_CHECKING:
    from pause_manager.worker.request import PausableRequest

MOST_TOLD = 50


class State(enum.Enum):
    """Where a request is."""

    RECEIVED = "received"
    """Celery has it: it waits for its time, for a token of a rate limit, or for a free process."""
    TAKEN = "taken"
    """We have it: it is to be decided about, kept, or given back."""
    SUBMITTED = "submitted"
    """The pool has it."""
    ENDED = "ended"


class OpenRequests:
    """The requests of this worker. Added and removed from any thread; a step costs well under a microsecond."""

    def __init__(self) -> None:
        self._requests: dict[int, PausableRequest] = {}
        self.on_change: Any = None
        """Called, if set, when a request has ended."""

    @cached_property
    def _control_queue(self) -> str:
        return conf.settings().control_queue

    def add(self, request: PausableRequest) -> None:
        if request.queue != self._control_queue and not getattr(request.task, "answers_for_itself", False):
            self._requests[id(request)] = request

    def remove(self, request: PausableRequest) -> None:
        self._requests.pop(id(request), None)
        if self.on_change is not None:
            self.on_change()

    def __iter__(self) -> Any:
        return iter(list(self._requests.values()))

    def counts(self) -> dict[str, tuple[int, int]]:
        """By queue: how many the pool has, how many it has not."""
        found: dict[str, list[int]] = {}
        for request in self:
            is_at_work = request.state is State.SUBMITTED
            if not is_at_work and getattr(request.task, "pausable", None) is False:
                continue  # no hold keeps it, however long it waits for its time
            counts = found.setdefault(clean(request.queue or ""), [0, 0])
            counts[0 if is_at_work else 1] += 1
        return {queue: (at_work, reserved) for queue, (at_work, reserved) in found.items()}

    def oldest(self) -> list[Mapping[str, Any]]:
        """The oldest of those that the pool has, for people; ``seconds`` since each was accepted."""
        now = time.time()
        at_work = [request for request in self if request.state is State.SUBMITTED]
        at_work.sort(key=lambda request: request.time_start or now)
        return [
            {
                "task_id": clean(str(request.id)[:255]),
                "task_name": clean(str(request.name)[:255]),
                "queue": clean(str(request.queue)[:255]),
                "seconds": round(now - (request.time_start or now), 3),
            }
            for request in at_work[:MOST_TOLD]
        ]

    def received(self, queues: Iterable[str] | None) -> list[PausableRequest]:
        """Those that Celery has and the pool has not, of ``queues`` (``None``: of all)."""
        wanted = None if queues is None else frozenset(queues)
        return [one for one in self if one.state is State.RECEIVED and (wanted is None or one.queue in wanted)]


open_requests = OpenRequests()
"""What this process has in hand."""
