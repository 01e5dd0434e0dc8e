"""A way into the worker's own loop from other threads: what touches the broker's connection or the pool runs there."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

logger = logging.getLogger("pause_manager.worker.event_loop")

Call = Callable[[], object]


class EventLoop:
    """The loop of one worker. A call wakes it; Celery's own ``call_soon`` waits until something else does.

    Without an event loop, in green pools, a greenlet of its own makes the call, as Celery does with acknowledgements;
    in others it waits for Celery's loop to come by, two seconds at the most.
    """

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._pipe: tuple[int, int] | None = None
        self._worker: Any = None

    def attach(self, worker: Any) -> None:
        """Serve the loop of Celery's ``WorkController``."""
        self._worker = worker

    def open(self, hub: Any) -> None:
        """It runs on ``hub``, a kombu hub, which forgets its readers with each lost connection."""
        if self._pipe is None:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
            if not hasattr(os, "pipe2"):
                for end in self._pipe:
                    os.set_blocking(end, False)
        hub.add_reader(self._pipe[0], self._woken)
        self._woken()

    def call(self, call: Call) -> None:
        """Have the loop make ``call``; from any thread. What it raises is logged."""
        if self._pipe is None:
            consumer = getattr(self._worker, "consumer", None)
            if consumer is None or getattr(self._worker.pool, "is_green", False):
                threading.Thread(target=_make, args=(call,), daemon=True).start()
            else:
                consumer.call_soon(partial(_make, call))
            return
        self._calls.append(call)
        self.wake()

    def wake(self) -> None:
        """Have the loop come round now: for what others have asked it for without waking it."""
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._pipe[1], b"x")

    def _woken(self, *_: object) -> None:
        assert self._pipe is not None
        with contextlib.suppress(BlockingIOError):
            while os.read(self._pipe[0], 4096):
                pass
        while self._calls:
            _make(self._calls.popleft())


def _make(call: Call) -> None:
    try:
        call()
    except Exception:
        logger.exception("A call into the worker's loop failed.")


event_loop = EventLoop()
"""The one of this process."""
